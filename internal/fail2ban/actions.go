package fail2ban

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sekisho/internal/config"
)

// What an action of fail2ban's does, by the beginning of its name.
var (
	firewalls = []string{"iptables", "nftables", "firewallcmd-", "ufw", "pf", "ipfw", "bsd-ipfw", "npf", "ipfilter", "shorewall", "route", "hostsdeny", "apf", "csf", "osx-", "symbiosis-blacklist"}
	// wholeHost are those that drop all of a banned peer's packets whatever their parameters are.
	wholeHost = []string{"ufw", "route", "hostsdeny", "shorewall", "apf", "csf", "symbiosis-blacklist"}
	mails     = []string{"sendmail", "mail", "smtp.py"}
	reports   = []string{"abuseipdb", "blocklist_de", "badips", "dshield", "mynetwatchman", "complain", "xarf-login-attack", "ipthreat"}
	clouds    = []string{"cloudflare", "netscaler", "mikrotik", "nsupdate", "nginx-block-map"}
)

func begins(name string, with []string) bool {
	return slices.ContainsFunc(with, func(w string) bool { return strings.HasPrefix(name, w) })
}

// actions takes over what happens to whom is banned, and who is told.
func (i *importing) actions() error {
	o, ok, err := i.jail.get("action")
	if err != nil {
		return err
	}
	if err := i.ports(); err != nil {
		return err
	}
	var mail []call
	blocks, all, only := false, false, []uint16(nil)
	for n, text := range splitCalls(o.text) {
		if n == 50 {
			i.note("see which of them is still needed", "%s: the jail has more than 50 actions: the rest is not looked at", o.at)
			break
		}
		c, err := parseCall(text)
		switch {
		case err != nil:
			return &Error{Place: o.at, Message: fmt.Sprintf("action of [%s]: %v", shown(i.jail.name), err), Hint: notStarted}
		case begins(c.name, firewalls):
			blocks = true
			ports, every, known := parsePorts(c.parameters["port"])
			all = all || every || !known || begins(c.name, wholeHost) || strings.Contains(c.name, "allports") || c.parameters["type"] == "allports"
			only = append(only, ports...)
			if chain := c.parameters["chain"]; chain != "" && chain != "INPUT" && !strings.HasPrefix(chain, "<") {
				i.note("what a container answers for itself is forwarded, and never guarded here", "%s: chain = %s is not taken over: sekisho has a table of its own, before all chains", o.at, shown(chain))
			}
		case begins(c.name, mails):
			mail = append(mail, c)
		case begins(c.name, reports):
			i.note("notify.webhook or notify.command, with events: [ban], can hand bans on", "%s: action %s reports attackers to others; sekisho does not", o.at, shown(c.name))
		case begins(c.name, clouds):
			i.note("notify.webhook or notify.command, with events: [ban, unban], can do it", "%s: action %s bans elsewhere; sekisho bans on this host", o.at, shown(c.name))
		default:
			i.note("notify.command can start a program of your own, with events: [ban, unban]", "%s: action %s is not known here", o.at, shown(c.name))
		}
	}
	switch {
	case !blocks && ok:
		i.note("guard.enforce: no does the same", "%s: none of the jail's actions is a firewall that is known here; sekisho bans in the kernel", from("action", o))
	case blocks && all:
		i.name("guard.drop", i.banaction(o)+": all of a banned peer's packets are dropped")
	case blocks && !slices.ContainsFunc(only, func(p uint16) bool { return p != 22 }):
		i.config.Guard.Drop = config.DropSSH
		i.name("guard.drop", i.banaction(o)+": those to SSH's port are dropped, and no others. sekisho's default is all")
	case blocks:
		i.remark("guard.drop", i.banaction(o)+": those to the jail's ports are dropped. With drop: ssh it would be so here, for those of ssh.port")
	}
	return i.mail(o, mail)
}

// banaction says where the firewall was chosen.
func (i *importing) banaction(action option) string {
	if b, ok, err := i.jail.get("banaction"); err == nil && ok && strings.Contains(action.text, b.text) {
		return from("banaction", b)
	}
	return from("action", action)
}

// ports tells which ports the jail is about. They are not named: sekisho apply would have sshd
// listen there, and what fail2ban drops to says nothing of that.
func (i *importing) ports() error {
	o, ok, err := i.jail.get("port")
	if err != nil || !ok {
		return err
	}
	i.remark("ssh.port", from("port", o), "sshd's own ports are found by sekisho plan; to name them here, see where sshd listens: sekisho init --output -")
	if ports, all, known := parsePorts(o.text); !known || !all && !slices.Equal(ports, []uint16{22}) {
		i.note("where sshd listens on other ports than 22, name them under ssh.port, all of them", "%s is not taken over: sekisho apply moves sshd to what ssh.port names", from("port", o))
	}
	return nil
}

// mail takes over who gets mail.
func (i *importing) mail(action option, mails []call) error {
	if len(mails) == 0 {
		return nil
	}
	var to []string
	sender := ""
	for _, c := range mails {
		parameter := func(names ...string) string {
			for _, name := range names {
				if v := c.parameters[name]; v != "" {
					return v
				}
			}
			return ""
		}
		if c.name == "smtp.py" {
			i.note("name it under notify.mail: smtp, user, password_file", "%s: the mail server of action smtp.py is not taken over", action.at)
		}
		for _, address := range splitWords(parameter("dest", "toaddr")) {
			switch {
			case !takes("notify: {mail: {to: [%s]}}", config.Quote(address)):
				i.note("write it as user@host under notify.mail.to", "%s: %s, who gets mail, is no mail address that is taken here", action.at, quote(address))
			case !slices.ContainsFunc(to, func(t string) bool { return strings.EqualFold(t, address) }) && len(to) < 20:
				to = append(to, address)
			}
		}
		sender = parameter("sender", "fromaddr")
	}
	if len(to) == 0 {
		i.note("name them under notify.mail.to", "%s: the jail sends mail, and to whom could not be taken over", action.at)
		return nil
	}
	quoted := make([]string, len(to))
	for n, address := range to {
		quoted[n] = config.Quote(address)
	}
	text := "to: [" + strings.Join(quoted, ", ") + "]"
	if strings.ContainsAny(sender, "<>") { // root@<fq-hostname>: sekisho puts its host's name there itself
		sender = ""
	}
	if sender != "" {
		if with := text + ", from: " + config.Quote(sender); takes("notify: {mail: {%s}}", with) {
			text = with
		} else {
			i.note("name it under notify.mail.from", "%s: %s, who sends the mail, is no mail address that is taken here", action.at, quote(sender))
		}
	}
	cfg, err := config.Parse("", []byte("version: 1\nnotify: {mail: {"+text+"}}\n"))
	if err != nil { // two that are one for it
		i.note("name them under notify.mail.to", "%s: to whom mail goes could not be taken over", action.at)
		return nil
	}
	i.config.Notify.Mail = cfg.Notify.Mail
	i.name("notify.mail", from("action", action), "by this host's mail server, at localhost:25",
		"of what matters, not of each ban: events: [ban, repeat, attack_began, attack_ended] would be nearer to fail2ban. sekisho notify test tries it")
	return nil
}

// leftOut tells what else the jail says.
func (i *importing) leftOut() error {
	own := func(key string) bool { return i.jail.own(key) }
	any := func(string) bool { return true }
	regex := "every message of OpenSSH 7.4 to 10 is known here; docs/kinds.md lists them, guard.weights weighs them"
	for _, e := range []struct {
		key    string
		counts func(key string) bool
		except string // a value that says nothing
		what   string
		remedy string
	}{
		{"ignorecommand", any, "", "a program that says who is not banned is not asked", "put the addresses under guard.ignore; admins and whoever is logged in are spared anyway"},
		{"failregex", own, "", "what counts as an attack is not taken over", regex},
		{"ignoreregex", own, "", "what is left out is not taken over", regex},
		{"prefregex", own, "", "how a line begins is not taken over", regex},
		{"datepattern", own, "", "how times are written is not taken over", "the forms of syslog and journald are known; see what sekisho explain FILE says"},
		{"maxlines", own, "1", "how many lines belong together is not taken over", "the lines of one attempt are put together by themselves"},
		{"journalmatch", own, "", "which entries of the journal are read is not taken over", "sshd's are found by themselves: sekisho status"},
		{"logencoding", any, "auto", "the log's encoding is not taken over", "what is no UTF-8 is shown escaped, and understood all the same"},
		{"logtimezone", any, "", "the log's time zone is not taken over", "a log without a zone is in this host's: log in ISO form, or to journald"},
		{"usedns", any, "warn", "nobody is banned by a name here", "leave UseDNS no in sshd_config, which is its default"},
	} {
		o, ok, err := i.jail.get(e.key)
		switch {
		case err != nil && strings.HasSuffix(e.key, "regex"): // a mistake of a regular expression's is none of ours
			o, _ = i.jail.tree.raw(i.jail.name, e.key)
		case err != nil:
			return err
		}
		if ok = ok || err != nil; !ok || !e.counts(e.key) || trim(o.text) == "" || o.text == e.except || e.key == "usedns" && o.text == "no" || e.key == "journalmatch" && isSSHD(o.text) {
			continue
		}
		i.note(e.remedy, "%s: %s", from(e.key, o), e.what)
	}
	if i.jail.custom {
		i.note(regex, "filter.d/%s.local or .d changes the filter; that is not taken over", shown(i.jail.filter.name))
	}
	for _, key := range slices.Sorted(maps.Keys(i.jail.filter.parameters)) {
		if key != modeKey {
			i.note(regex, "%s: the filter's parameter %s is not taken over", i.jail.at, quote(key+"="+i.jail.filter.parameters[key]))
		}
	}
	return nil
}

// isSSHD reports whether a match of the journal is of sshd's entries and no others.
func isSSHD(match string) bool {
	return !slices.ContainsFunc(strings.Fields(match), func(w string) bool {
		return w != "+" && !begins(w, []string{"_COMM=sshd", "_SYSTEMD_UNIT=ssh.service", "_SYSTEMD_UNIT=sshd.service"})
	})
}
