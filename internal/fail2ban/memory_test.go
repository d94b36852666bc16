package fail2ban

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// memory is a disk of a test's: files by path.
type memory map[string]string

func (m memory) read(name string) ([]byte, error) {
	text, ok := m[path.Clean(name)]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(text), nil
}

func (m memory) list(dir string) ([]string, error) {
	var names []string
	for name := range m {
		if path.Dir(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// dir is where a test's files are.
const dir = "/etc/fail2ban"

// base is a jail.conf with what all that are shipped have in common.
const base = `
[DEFAULT]
ignorecommand =
bantime = 10m
findtime = 10m
maxretry = 5
backend = auto
usedns = warn
logencoding = auto
enabled = false
mode = normal
filter = %(__name__)s[mode=%(mode)s]
destemail = root@localhost
sender = root@<fq-hostname>
mta = sendmail
port = 0:65535
chain = <known/chain>
banaction = iptables-multiport
banaction_allports = iptables-allports
sshd_log = /var/log/auth.log
sshd_backend = %(default/backend)s
action_ = %(banaction)s[port="%(port)s", chain="%(chain)s"]
action_mwl = %(action_)s
             %(mta)s-whois-lines[sender="%(sender)s", dest="%(destemail)s", logpath="%(logpath)s"]
action_cf = cloudflare[cfuser="%(cfemail)s"]
action = %(action_)s

[sshd]
port = ssh
logpath = %(sshd_log)s
backend = %(sshd_backend)s

[nginx-http-auth]
port = http,https
logpath = /var/log/nginx/error.log

[recidive]
logpath = /var/log/fail2ban.log
bantime = 1w
`

// based is base with further files, by their path below dir.
func based(files map[string]string) memory {
	m := memory{dir + "/jail.conf": strings.TrimPrefix(base, "\n"), dir + "/fail2ban.conf": "[Definition]\ndbfile = /var/lib/fail2ban/fail2ban.sqlite3\n"}
	for name, text := range files {
		m[dir+"/"+name] = text
	}
	return m
}
