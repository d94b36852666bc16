package loggen

import "strconv"

// noise are other programs' lines. In each, %p is a pid, %a an address, %n a
// number; some name sshd or say "Failed", as the real ones do.
var noise = []string{
	"CRON[%p]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)",
	"CRON[%p]: (root) CMD (command -v debian-sa1 > /dev/null && debian-sa1 1 1)",
	"CRON[%p]: pam_unix(cron:session): session closed for user root",
	"CRON[%p]: (www-data) CMD (php -f /var/www/nextcloud/cron.php)",
	"systemd[1]: Started session-%n.scope - Session %n of User deploy.",
	"systemd[1]: session-%n.scope: Deactivated successfully.",
	"systemd[1]: Starting logrotate.service - Rotate log files...",
	"systemd[1]: apt-daily.service: Failed with result 'exit-code'.",
	"systemd-logind[611]: New session %n of user deploy.",
	"systemd-logind[611]: Session %n logged out. Waiting for processes to exit.",
	"systemd-logind[611]: Removed session %n.",
	"systemd-resolved[540]: Server returned error NXDOMAIN, mitigating potential DNS violation DVE-2018-0001, retrying transaction with reduced feature level UDP.",
	"kernel: [%n.%n] [UFW BLOCK] IN=eth0 OUT= MAC=06:1a:2b:3c:4d:5e:06:5f:6a:7b:8c:9d:08:00 SRC=%a DST=10.0.0.5 LEN=40 TOS=0x00 PREC=0x00 TTL=241 ID=54321 PROTO=TCP SPT=%n DPT=%n WINDOW=1024 RES=0x00 SYN URGP=0",
	"kernel: [%n.%n] TCP: request_sock_TCP: Possible SYN flooding on port 443. Sending cookies.",
	"kernel: [%n.%n] audit: type=1400 audit(1793491200.%n:%n): apparmor=\"DENIED\" operation=\"open\" profile=\"snap.lxd.daemon\" name=\"/proc/%p/status\" pid=%p comm=\"lxd\"",
	"sudo:   deploy : TTY=pts/0 ; PWD=/home/deploy ; USER=root ; COMMAND=/usr/bin/systemctl restart nginx",
	"sudo:   hanako : TTY=pts/1 ; PWD=/var/log ; USER=root ; COMMAND=/usr/bin/grep sshd /var/log/auth.log",
	"sudo: pam_unix(sudo:session): session opened for user root(uid=0) by deploy(uid=1001)",
	"sudo: pam_unix(sudo:session): session closed for user root",
	"su[%p]: pam_unix(su:auth): authentication failure; logname=taro uid=1003 euid=0 tty=/dev/pts/2 ruser=taro rhost=  user=root",
	"postfix/smtpd[%p]: connect from unknown[%a]",
	"postfix/smtpd[%p]: warning: unknown[%a]: SASL LOGIN authentication failed: UGFzc3dvcmQ6",
	"postfix/smtpd[%p]: lost connection after AUTH from unknown[%a]",
	"postfix/smtpd[%p]: disconnect from unknown[%a] ehlo=1 auth=0/1 commands=1/2",
	"postfix/anvil[%p]: statistics: max connection rate 1/60s for (smtp:%a) at Nov 22 06:25:01",
	"dovecot: imap-login: Disconnected (auth failed, 1 attempts in 2 secs): user=<info>, method=PLAIN, rip=%a, lip=10.0.0.5, session=<q2w8Qk5dWb9n>",
	"dhclient[%p]: DHCPREQUEST for 10.0.0.5 on eth0 to 10.0.0.1 port 67",
	"chronyd[702]: Selected source %a (2.debian.pool.ntp.org)",
	"dockerd[940]: time=\"2026-11-22T06:25:01Z\" level=info msg=\"ignoring event\" container=3f1c9d7be2a4 module=libcontainerd topic=/tasks/delete",
	"rsyslogd: [origin software=\"rsyslogd\" swVersion=\"8.2302.0\" x-pid=\"%n\" x-info=\"https://www.rsyslog.com\"] rsyslogd was HUPed",
}

func (g *Generator) appendNoise(dst []byte) []byte {
	text := noise[g.rng.IntN(len(noise))]
	from := 0
	for i := 0; i+1 < len(text); i++ {
		if text[i] != '%' {
			continue
		}
		dst = append(dst, text[from:i]...)
		switch text[i+1] {
		case 'p':
			dst = strconv.AppendInt(dst, int64(1000+g.rng.IntN(60_000)), 10)
		case 'n':
			dst = strconv.AppendInt(dst, int64(1+g.rng.IntN(60_000)), 10)
		case 'a':
			dst = append(dst, g.sources[g.rng.IntN(len(g.sources))]...)
		}
		from = i + 2
	}
	return append(dst, text[from:]...)
}
