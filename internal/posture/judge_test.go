package posture

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sekisho/internal/accounts"
	"sekisho/internal/config"
	"sekisho/internal/conntrack"
	"sekisho/internal/firewall"
	"sekisho/internal/sshd"
)

var today = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// good are the facts of a host with which nothing is wrong.
func good() Facts {
	cfg := config.Default()
	cfg.Exposure = config.ExposureFixed
	return Facts{
		Host: "web1", Time: today, Root: true, Config: cfg,
		Daemon: Daemon{Asked: true, Running: true, Enforcing: true, Generation: 3, Exposure: config.ExposureFixed, Applied: true},
		SSHD: SSHD{
			Server: &sshd.Server{Path: "/usr/sbin/sshd", Config: "/etc/ssh/sshd_config", Version: sshd.Version{Major: 10}, Text: "OpenSSH_10.0p2 Debian-7", PID: 812},
			Effective: sshd.Effective{
				"port": {"22"}, "listenaddress": {"192.0.2.1:22"}, "permitrootlogin": {"no"}, "passwordauthentication": {"no"}, "kbdinteractiveauthentication": {"no"},
				"permitemptypasswords": {"no"}, "usepam": {"yes"}, "strictmodes": {"yes"}, "maxauthtries": {"4"}, "logingracetime": {"30"}, "maxstartups": {"10:30:60"},
				"x11forwarding": {"no"}, "loglevel": {"VERBOSE"}, "usedns": {"no"}, "permituserenvironment": {"no"}, "hostbasedauthentication": {"no"}, "ignorerhosts": {"yes"},
				"ciphers": {"aes256-gcm@openssh.com"}, "macs": {"hmac-sha2-256,hmac-sha1"}, "kexalgorithms": {"mlkem768x25519-sha256"}, "hostkeyalgorithms": {"ssh-ed25519"},
				"trustedusercakeys": {"none"}, "revokedkeys": {"none"}, "authorizedkeyscommand": {"none"}, "pubkeyauthentication": {"yes"},
			},
			Tree:      tree("PasswordAuthentication no\n"),
			Listening: listening("192.0.2.1:22"),
			Loaded:    today.Add(-time.Hour), LoadSure: true,
			Changed:  []Changed{{"/etc/ssh/sshd_config", today.Add(-2 * time.Hour)}},
			HostKeys: []HostKey{{"/etc/ssh/ssh_host_rsa_key", 0o600, "ssh-rsa", 3072}, {"/etc/ssh/ssh_host_ed25519_key", 0o640, "ssh-ed25519", 0}},
		},
		System:   System{ID: "debian", Version: "13", Name: "Debian 13", Package: "1:10.0p1-7", Lists: today},
		Firewall: Firewall{Standing: firewall.Standing{Table: true, Confirmed: 3}},
		Accounts: []accounts.Account{
			{Name: "root", Home: "/root", Login: true, Password: accounts.PasswordLocked, Root: "uid 0"},
			{Name: "hanako", UID: 1000, Home: "/home/hanako", Login: true, Password: accounts.PasswordLocked, Root: "group sudo", Keys: []accounts.Key{key("hanako", 1)}},
		},
		Clock: Clock{Known: true, Synchronized: true},
	}
}

func key(comment string, line int) accounts.Key {
	return accounts.Key{File: "/home/hanako/.ssh/authorized_keys", Line: line, Type: "ssh-ed25519", Fingerprint: "SHA256:" + comment, Comment: comment, Modified: today.Add(-time.Hour)}
}

func listening(addrs ...string) (all []sshd.Listener) {
	for _, a := range addrs {
		all = append(all, sshd.Listener{Addr: netip.MustParseAddrPort(a)})
	}
	return all
}

// tree is a configuration of one file, made by hand: keywords as they are written.
func tree(content string) *sshd.Tree {
	f := &sshd.File{Path: "/etc/ssh/sshd_config", Content: []byte(content)}
	t := &sshd.Tree{Files: []*sshd.File{f}}
	var in *sshd.Match
	for i, line := range strings.Split(content, "\n") {
		w := strings.Fields(line)
		if len(w) == 0 || w[0][0] == '#' {
			continue
		}
		if w[0] == "Match" {
			in = &sshd.Match{File: f, Line: i + 1, Criteria: []sshd.Criterion{{Name: strings.ToLower(w[1]), Patterns: strings.Join(w[2:], " ")}}}
			t.Matches = append(t.Matches, in)
			continue
		}
		t.Directives = append(t.Directives, sshd.Directive{File: f, Line: i + 1, Keyword: strings.ToLower(w[0]), Written: w[0], Args: w[1:], Match: in})
	}
	return t
}

func TestJudge(t *testing.T) {
	set := func(keyword, value string) func(*Facts) {
		return func(f *Facts) { f.SSHD.Effective[keyword] = []string{value} }
	}
	account := func(a accounts.Account) func(*Facts) {
		return func(f *Facts) { f.Accounts = append(f.Accounts, a) }
	}
	withKey := func(change func(*accounts.Key)) func(*Facts) {
		return func(f *Facts) {
			k := key("taro", 7)
			change(&k)
			f.Accounts[1].Keys = append(f.Accounts[1].Keys, k)
		}
	}
	bare := func(f *Facts) {
		f.Config, f.Daemon, f.Firewall.Standing = nil, Daemon{Asked: true}, firewall.Standing{}
		f.SSHD.Listening = listening("0.0.0.0:22", "[::]:22")
	}
	other := firewall.Block{Where: "table inet filter, chain input", Rule: "policy drop", Port: 22, Certain: true, Remedy: "nft add rule ..."}
	release := func(major, minor int, text, pkg, id, version string) func(*Facts) {
		return func(f *Facts) {
			f.SSHD.Server.Version, f.SSHD.Server.Text = sshd.Version{Major: major, Minor: minor}, text
			f.System = System{ID: id, Version: version, Name: id + " " + version, Package: pkg}
		}
	}
	tests := []struct {
		name string
		make func(*Facts)
		want string // "severity id", none: nothing but info
		in   string // of its What
	}{
		{"nothing", func(*Facts) {}, "", ""},

		{"nothing in force", bare, "high ssh_open", "port 22"},
		{"nothing in force, no sshd runs", func(f *Facts) { bare(f); f.SSHD.Listening = nil; f.SSHD.Server.PID = 0 }, "low ssh_open", "once sshd runs"},
		{"no sshd runs", func(f *Facts) { f.SSHD.Listening = nil; f.SSHD.Server.PID = 0 }, "info sshd_down", ""},
		{"on EC2", func(f *Facts) { bare(f); f.Cloud = Cloud{EC2: true} }, "high ssh_open", "security group"},
		{"off", func(f *Facts) {
			f.Daemon.Off = true
			f.Daemon.Generation = 0
			f.Firewall.Standing = firewall.Standing{}
		}, "high firewall_off", ""},
		{"daemon down", func(f *Facts) { f.Daemon = Daemon{Asked: true} }, "high daemon_down", ""},
		{"daemon complains", func(f *Facts) { f.Daemon.Problems = []Problem{{"no log", "mend"}} }, "medium daemon_problem", "no log"},
		{"dry run", func(f *Facts) { f.Daemon.Enforcing = false }, "medium not_enforcing", ""},
		{"not applied", func(f *Facts) { f.Daemon.Applied = false }, "low not_applied", ""},
		{"file wrong", func(f *Facts) { f.Config, f.ConfigErr = nil, errors.New("x:1: bad\nmore") }, "medium config_invalid", "x:1: bad"},
		{"blocked", func(f *Facts) { f.Firewall.V4, f.Firewall.Others.Blocks = true, []firewall.Block{other} }, "high port_blocked", "chain input"},
		{"another firewall", func(f *Facts) {
			bare(f)
			f.Firewall.V4, f.Firewall.V6, f.Firewall.Others.Blocks = true, true, []firewall.Block{other}
		}, "info another_firewall", "chain input"},
		{"IPv6 open", func(f *Facts) {
			bare(f)
			f.Firewall.V4, f.Firewall.Others.Blocks = true, []firewall.Block{other}
		}, "high ipv6_open", "IPv6"},
		{"two firewalls", func(f *Facts) {
			f.Config.Firewall.Mode = config.FirewallLockdown
			f.Firewall.Others.Managers = []firewall.Manager{{Name: "ufw", How: "chain", Stop: "ufw disable"}}
		}, "medium two_firewalls", "ufw"},
		{"everywhere", func(f *Facts) { f.SSHD.Listening = listening("0.0.0.0:22") }, "info listens_everywhere", "IPv4, port 22"},
		{"conntrack full", func(f *Facts) { f.Conntrack = []conntrack.Finding{{Level: conntrack.Critical, Text: "full"}} }, "high conntrack", "full"},
		{"conntrack fills", func(f *Facts) { f.Conntrack = []conntrack.Finding{{Level: conntrack.Warning, Text: "80 %"}} }, "medium conntrack", "80 %"},

		{"rejected", func(f *Facts) { f.SSHD.Rejected = &sshd.Rejected{Words: "line 3: Bad"} }, "critical config_rejected", "line 3: Bad"},
		{"not loaded", func(f *Facts) { f.SSHD.Changed[0].Time = today }, "medium config_not_loaded", "sshd_config"},
		{"perhaps not loaded", func(f *Facts) { f.SSHD.Changed[0].Time, f.SSHD.LoadSure = today, false }, "info config_not_loaded", "not known"},
		{"replaced", func(f *Facts) { f.SSHD.Replaced = true }, "high sshd_replaced", "812"},
		{"socket", func(f *Facts) {
			f.SSHD.Server.Socket, f.SSHD.Effective["listenaddress"] = "ssh.socket", []string{"[::]:51921"}
		},
			"medium port_ignored", "ssh.socket listens on 22, and the configuration says 51921"},
		{"update", func(f *Facts) { f.System.Candidate = "1:10.0p1-8" }, "high update_pending", "1:10.0p1-8"},
		{"regreSSHion", release(9, 2, "OpenSSH_9.2p1 Debian-2+deb12u2", "1:9.2p1-2+deb12u2", "debian", "12"), "critical cve_2024_6387", "deb12u2"},
		{"regreSSHion mended", release(9, 2, "OpenSSH_9.2p1 Debian-2+deb12u3", "1:9.2p1-2+deb12u3", "debian", "12"), "", ""},
		{"audit race", release(8, 7, "OpenSSH_8.7p1", "8.7p1-38.el9_4.1", "rocky", "9.4"), "high cve_2024_6409", ""},
		{"ping", release(9, 9, "OpenSSH_9.9p1", "", "arch", ""), "medium cve_2025_26466", ""},
		{"by the release alone", release(9, 6, "OpenSSH_9.6p1", "", "alpine", "3.19"), "high cve_2024_6387", "could not be seen"},
		{"GSSAPI", func(f *Facts) {
			release(9, 6, "OpenSSH_9.6p1 Ubuntu-3ubuntu13.14", "1:9.6p1-3ubuntu13.14", "ubuntu", "24.04")(f)
			set("gssapikeyexchange", "yes")(f)
		}, "medium cve_2026_3497", "CVE-2026-3497"},
		{"GSSAPI off", release(9, 6, "OpenSSH_9.6p1 Ubuntu-3ubuntu13.14", "1:9.6p1-3ubuntu13.14", "ubuntu", "24.04"), "", ""},
		{"long passwords", func(f *Facts) {
			release(10, 3, "OpenSSH_10.3p1", "", "alpine", "3.24")(f)
			f.SSHD.Musl = true
			delete(f.SSHD.Effective, "usepam") // not built in
			set("passwordauthentication", "yes")(f)
		}, "high cve_2026_123158", "could not be seen"},
		{"long passwords, which it does not take", func(f *Facts) {
			release(10, 3, "OpenSSH_10.3p1", "", "alpine", "3.24")(f)
			f.SSHD.Musl = true
			delete(f.SSHD.Effective, "usepam")
		}, "", ""},
		{"end of life", func(f *Facts) { f.System = System{ID: "amzn", Version: "2", Name: "Amazon Linux 2"} }, "high end_of_life", "2026-06-30"},
		{"end of life, Ubuntu 25.10", func(f *Facts) { f.System = System{ID: "ubuntu", Version: "25.10", Name: "Ubuntu 25.10"} }, "high end_of_life", "2026-07-09"},

		{"root by password", func(f *Facts) {
			set("permitrootlogin", "yes")(f)
			set("passwordauthentication", "yes")(f)
			f.Accounts[0].Password = accounts.PasswordSet
		}, "critical root_password", "PermitRootLogin yes"},
		{"root by key", func(f *Facts) {
			set("permitrootlogin", "without-password")(f)
			f.Accounts[0].Keys = []accounts.Key{key("root", 1)}
		}, "low root_login", "without-password"},
		{"root by no key", set("permitrootlogin", "without-password"), "info root_login", ""},
		{"passwords", set("passwordauthentication", "yes"), "high password_login", "PasswordAuthentication (/etc/ssh/sshd_config:1)"},
		{"keyboard-interactive", set("kbdinteractiveauthentication", "yes"), "high password_login", "KbdInteractiveAuthentication (the default)"},
		{"keyboard-interactive, 8.4", set("challengeresponseauthentication", "yes"), "high password_login", ""},
		{"empty passwords", set("permitemptypasswords", "yes"), "critical empty_passwords", ""},
		{"host based", set("hostbasedauthentication", "yes"), "medium host_based", ""},
		{"rhosts", func(f *Facts) { set("hostbasedauthentication", "yes")(f); set("ignorerhosts", "no")(f) }, "low rhosts", ""},
		{"strict modes", set("strictmodes", "no"), "high strict_modes", ""},
		{"environment", set("permituserenvironment", "LD_*"), "medium user_environment", "LD_*"},
		{"tries", set("maxauthtries", "6"), "low max_auth_tries", "6"},
		{"grace", set("logingracetime", "120"), "low login_grace_time", "120"},
		{"endless grace", set("logingracetime", "0"), "medium login_grace_time", "without end"},
		{"startups", set("maxstartups", "10:30:100"), "low max_startups", "10:30:100"},
		{"x11", set("x11forwarding", "yes"), "low x11_forwarding", ""},
		{"log", set("loglevel", "INFO"), "low log_level", "INFO"},
		{"no log", set("loglevel", "QUIET"), "high log_level", "nobody is banned"},
		{"dns", set("usedns", "yes"), "low use_dns", ""},
		{"ciphers", set("ciphers", "aes256-ctr,3des-cbc,arcfour256"), "medium weak_ciphers", "3des-cbc, arcfour256"},
		{"macs", set("macs", "hmac-sha1,hmac-md5-etm@openssh.com"), "medium weak_macs", "has hmac-md5-etm@openssh.com"},
		{"kex", set("kexalgorithms", "diffie-hellman-group14-sha1,curve25519-sha256"), "medium weak_kex", "has diffie-hellman-group14-sha1"},
		{"signatures", set("pubkeyacceptedalgorithms", "ssh-ed25519,ssh-rsa"), "low weak_signatures", "has ssh-rsa"},
		{"match opens", func(f *Facts) {
			f.SSHD.Tree = tree("PasswordAuthentication no\nMatch User backup\n  PasswordAuthentication yes\n")
		},
			"medium match_opens", "/etc/ssh/sshd_config:3: PasswordAuthentication yes, for Match User backup (line 2), while it is no"},
		{"match opens root", func(f *Facts) { f.SSHD.Tree = tree("Match Address 10.0.0.0/8\n  PermitRootLogin yes\n") }, "high match_opens", "10.0.0.0/8"},
		{"match closes", func(f *Facts) { f.SSHD.Tree = tree("Match User x\n  PasswordAuthentication no\n") }, "", ""},
		{"shadowed", func(f *Facts) { f.SSHD.Tree = tree("X11Forwarding no\nX11Forwarding yes\n") }, "medium setting_shadowed", "sshd_config:2: X11Forwarding yes has no effect, since /etc/ssh/sshd_config:1 says no"},
		{"shadowed by us", func(f *Facts) {
			f.SSHD.Tree = tree("# BEGIN sekisho 01234567\nX11Forwarding no\n# END sekisho 01234567\nX11Forwarding yes\n")
		}, "", ""},
		{"said twice", func(f *Facts) {
			f.SSHD.Tree = tree("X11Forwarding no\nX11Forwarding no\nPort 22\nPort 23\nAcceptEnv A\nAcceptEnv B\n")
		}, "", ""},
		{"scoped", func(f *Facts) {
			set("x11forwarding", "yes")(f)
			f.SSHD.Tree = tree("Match User x\n  ForceCommand internal-sftp\n\nX11Forwarding no\n")
		}, "medium setting_scoped", "sshd_config:4: X11Forwarding no holds for Match User x (line 1) only"},
		{"meant for its block", func(f *Facts) {
			set("allowtcpforwarding", "yes")(f)
			f.SSHD.Tree = tree("Match User x\nForceCommand internal-sftp\nAllowTcpForwarding no\n")
		}, "", ""},
		{"a password and a key", func(f *Facts) {
			set("passwordauthentication", "yes")(f)
			set("authenticationmethods", "publickey,password publickey,keyboard-interactive:pam")(f)
		}, "", ""},
		{"two passwords", func(f *Facts) {
			set("passwordauthentication", "yes")(f)
			set("authenticationmethods", "publickey password,keyboard-interactive")(f)
		}, "high password_login", "PasswordAuthentication"},
		{"relics", func(f *Facts) { f.SSHD.Tree = tree("KeyRegenerationInterval 3600\n") }, "info relics", "KeyRegenerationInterval"},
		{"protocol 1", func(f *Facts) {
			f.SSHD.Server.Version = sshd.Version{Major: 6, Minor: 6}
			f.SSHD.Tree = tree("Protocol 2,1\n")
		}, "critical protocol_1", "2,1"},

		{"host key readable", func(f *Facts) { f.SSHD.HostKeys[0].Mode = 0o644 }, "high host_key_readable", "0644"},
		{"host key DSA", func(f *Facts) { f.SSHD.HostKeys[0].Type = "ssh-dss" }, "medium host_key_weak", "DSA"},
		{"host key small", func(f *Facts) { f.SSHD.HostKeys[0].Bits = 1024 }, "high host_key_weak", "1024"},
		{"host key short", func(f *Facts) { f.SSHD.HostKeys[0].Bits = 2048 }, "low host_key_weak", "2048"},
		{"host certificate ends", func(f *Facts) { f.SSHD.Certs = []HostCert{{"/c", today.Add(time.Hour)}, {"/d", time.Time{}}} }, "medium host_cert_expires", "/c ends"},
		{"host certificate ended", func(f *Facts) { f.SSHD.Certs = []HostCert{{"/c", today}} }, "high host_cert_expires", "has ended"},
		{"authority writable", func(f *Facts) { f.SSHD.CAKeys = &CAKeys{Path: "/ca", Loose: "its mode is 0666"} }, "critical ca_writable", "0666"},
		{"authority", func(f *Facts) { f.SSHD.CAKeys = &CAKeys{Path: "/ca", Keys: []accounts.Key{key("ca", 1)}} }, "info ca_trusted", "SHA256:ca"},
		{"authority gone", func(f *Facts) { f.SSHD.CAKeys = &CAKeys{Path: "/ca", Err: errors.New("gone")} }, "high ca_unreadable", "gone"},
		{"revoked gone", func(f *Facts) { f.SSHD.Revoked = errors.New("gone") }, "critical revoked_unreadable", "gone"},

		{"no way in", func(f *Facts) { f.Accounts[1].Keys = nil }, "critical no_way_in", ""},
		{"no way in: barred", func(f *Facts) { set("usepam", "no")(f); f.Accounts[1].Barred = true }, "critical no_way_in", ""},
		{"a way in by a command", func(f *Facts) {
			f.Accounts[1].Keys = nil
			set("authorizedkeyscommand", "/usr/bin/sss_ssh_authorizedkeys")(f)
		}, "", ""},
		{"a way in unseen", func(f *Facts) {
			f.Accounts[1].Keys = nil
			f.Accounts[1].Problems = []accounts.Problem{{File: "/home/hanako", What: "permission denied", Unseen: true}}
		}, "", ""},
		{"key refused", func(f *Facts) {
			a := f.Accounts[1]
			a.Name, a.Root = "taro", ""
			a.Keys = []accounts.Key{{File: "/home/taro/k", Line: 1, Type: "ssh-ed25519", Fingerprint: "SHA256:taro"}}
			a.Problems = []accounts.Problem{{File: "/home/taro/k", What: "writable by all"}}
			f.Accounts = append(f.Accounts, a)
		}, "medium key_refused", "writable by all"},
		{"the only way in refused", func(f *Facts) {
			f.Accounts[1].Problems = []accounts.Problem{{File: "/home/hanako/.ssh/authorized_keys", What: "writable by all"}}
		}, "high key_refused", "hanako"},
		{"line", func(f *Facts) { f.Accounts[1].Problems = []accounts.Problem{{File: "/k", Line: 3, What: "is no key"}} }, "low key_line", "/k:3 (hanako) is no key"},
		{"no password", account(accounts.Account{Name: "open", UID: 1001, Login: true, Password: accounts.PasswordNone}), "high password_none", "open"},
		{"no password, let in", func(f *Facts) {
			set("permitemptypasswords", "yes")(f)
			set("passwordauthentication", "yes")(f)
			account(accounts.Account{Name: "open", UID: 1001, Login: true, Password: accounts.PasswordNone})(f)
		}, "critical password_none", "open"},
		{"password", func(f *Facts) { set("passwordauthentication", "yes")(f); f.Accounts[1].Password = accounts.PasswordSet }, "low password_set", "1 account has a password: hanako"},
		{"twin", account(accounts.Account{Name: "toor", Password: accounts.PasswordLocked}), "high uid0_twin", "toor"},
		{"key weak", withKey(func(k *accounts.Key) { k.Type, k.Bits = "ssh-rsa", 1024 }), "high key_weak", "1024 bits"},
		{"key DSA", withKey(func(k *accounts.Key) { k.Type = "ssh-dss" }), "medium key_weak", "DSA"},
		{"key short", withKey(func(k *accounts.Key) { k.Type, k.Bits = "ssh-rsa", 2048 }), "low key_short", "2048 bits"},
		{"key old", func(f *Facts) { f.Accounts[1].Keys[0].Modified = today.AddDate(-3, 0, 0) }, "low key_old", "2023-11-23"},
		{"key shared", withKey(func(k *accounts.Key) { k.Fingerprint = "SHA256:hanako" }), "medium key_shared", `"hanako", "taro"`},
		{"key everywhere", account(accounts.Account{Name: "deploy", UID: 1002, Login: true, Password: accounts.PasswordLocked, Keys: []accounts.Key{key("hanako", 1)}}), "low key_everywhere", "opens deploy, hanako"},
		{"service", account(accounts.Account{Name: "backup", UID: 34, Keys: []accounts.Key{key("backup", 1)}}), "low key_unrestricted", "backup"},
		{"service, restricted", account(accounts.Account{Name: "backup", UID: 34, Keys: []accounts.Key{{Type: "ssh-ed25519", Options: []string{`command="x"`}}}}), "", ""},
		{"root's keys", func(f *Facts) { f.Accounts[0].Keys = []accounts.Key{key("root", 1)} }, "info root_keys", "1 key"},

		{"clock", func(f *Facts) { f.Clock.Synchronized = false }, "low clock_unsynchronized", ""},
		{"clock off", func(f *Facts) { f.Clock.Off = -time.Hour }, "high clock_off", "-1h0m0s"},
		{"metadata", func(f *Facts) { f.Cloud = Cloud{EC2: true, V1: true} }, "medium imds_v1", ""},
	}
	told := map[string]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := good()
			tt.make(&f)
			report := Judge(f)
			if tt.want == "" {
				if !report.Clean() {
					t.Errorf("findings = %+v, want none", report.Findings)
				}
				return
			}
			severity, id, _ := strings.Cut(tt.want, " ")
			found := false
			for i, got := range report.Findings {
				if i > 0 && report.Findings[i-1].Severity.rank() > got.Severity.rank() {
					t.Errorf("%s comes after %s", got.Severity, report.Findings[i-1].Severity)
				}
				if got.ID != id {
					continue
				}
				found, told[id] = true, true
				if string(got.Severity) != severity || !strings.Contains(got.What, tt.in) {
					t.Errorf("got %s: %s, want %s: ... %s ...", got.Severity, got.What, severity, tt.in)
				}
				if got.Why == "" || got.Remedy == "" {
					t.Errorf("%s has no why, or no remedy", id)
				}
			}
			if !found {
				t.Errorf("no %s in %+v", id, report.Findings)
			}
		})
	}
	for _, k := range Kinds() {
		if strings.HasPrefix(k.ID, "group_") { // what is in a cloud package access judges
			continue
		}
		if !told[k.ID] {
			t.Errorf("no case for %s", k.ID)
		}
	}
}

func TestRung(t *testing.T) {
	tests := []struct {
		name string
		make func(*Facts)
		want string
		next bool
	}{
		{"fixed", func(*Facts) {}, "fixed", false},
		{"on request", func(f *Facts) { f.Daemon.Exposure = config.ExposureOnRequest }, "on_request", true},
		{"public", func(f *Facts) { f.Daemon.Exposure = config.ExposurePublic }, "public", true},
		{"the daemon is down, its rules hold", func(f *Facts) { f.Daemon = Daemon{Asked: true} }, "fixed", false},
		{"bans only", func(f *Facts) { f.Daemon.Generation = 0; f.Firewall.Standing.Confirmed = 0 }, "open", true},
		{"loopback", func(f *Facts) {
			f.Config, f.Daemon, f.Firewall.Standing = nil, Daemon{Asked: true}, firewall.Standing{}
			f.SSHD.Listening = listening("127.0.0.1:22", "[::1]:22")
		}, "fixed", false},
		{"not root", func(f *Facts) {
			f.Config, f.Daemon, f.Firewall, f.Root = nil, Daemon{}, Firewall{Err: errors.New("no")}, false
		}, "unknown", true},
		{"not root, the daemon answers", func(f *Facts) { f.Firewall, f.Root = Firewall{Err: errors.New("no")}, false }, "fixed", false},
		{"no sshd", func(f *Facts) { f.SSHD = SSHD{Err: sshd.ErrNone} }, "unknown", true},
		{"nothing seen", func(f *Facts) { *f = Facts{Firewall: Firewall{Err: errors.New("no")}} }, "unknown", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := good()
			tt.make(&f)
			got := Judge(f).Rung
			if got.Name != tt.want || got.Why == "" || (got.Next != "") != tt.next {
				t.Errorf("got %+v, want %s", got, tt.want)
			}
		})
	}
}

// What others wrote is shown, not obeyed, and there is not too much of it.
func TestJudgeHostile(t *testing.T) {
	f := good()
	for i := range 1000 {
		k := key("\x1b]0;x\a\u202e", i)
		k.Type, k.Bits, k.File = "ssh-rsa", 1024, "/home/\x1b[31m"
		f.Accounts[1].Keys = append(f.Accounts[1].Keys, k)
	}
	report := Judge(f)
	if n := len(report.Findings); n > 100 {
		t.Errorf("%d findings", n)
	}
	for _, got := range report.Findings {
		if strings.ContainsAny(got.What+got.Remedy, "\x1b\a\u202e\n") {
			t.Errorf("what = %q", got.What)
		}
	}
}

// Where sekisho.yaml asks for the profile already, what is missing is apply.
func TestRemedyOfTheConfigured(t *testing.T) {
	for _, tt := range []struct {
		profile  config.Profile
		settings map[string]string
		want     string
	}{
		{config.ProfileNone, nil, basic},
		{config.ProfileBasic, nil, "sekisho apply: the configuration asks for it already"},
		{config.ProfileBasic, map[string]string{"X11Forwarding": config.AsIs}, basic},
	} {
		cfg := config.Default()
		cfg.SSH.Profile, cfg.SSH.Settings = tt.profile, tt.settings
		f := good()
		f.Config = cfg
		f.SSHD.Effective["x11forwarding"] = []string{"yes"}
		found := false
		for _, got := range Judge(f).Findings {
			if got.ID == "x11_forwarding" {
				if found = true; got.Remedy != tt.want {
					t.Errorf("profile %s: got %q, want %q", tt.profile, got.Remedy, tt.want)
				}
			}
		}
		if !found {
			t.Error("x11_forwarding is not found")
		}
	}
}
