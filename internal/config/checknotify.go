package config

import "net"

// checkNotify notes the mistakes that are between the keys of notify.
func (d *decoder) checkNotify(c *Config) {
	n := &c.Notify
	d.rule(n.Weekly && n.Mail == nil, "say to whom: mail: {to: [ops@example.com]}",
		"notify.weekly is yes, but there is no notify.mail", "notify.weekly", "notify.mail", "notify")
	d.checkMail(n.Mail)
	if w := n.Webhook; w != nil {
		d.oneSecret("notify.webhook", "secret", w.Secret, w.SecretFile)
		d.checkInside(n, "notify.webhook", w.URL)
	}
	for _, h := range []struct {
		at   string
		hook *Hook
	}{{"notify.slack", n.Slack}, {"notify.discord", n.Discord}} {
		if h.hook != nil {
			d.needSecret(h.at, "url", h.hook.URL, h.hook.URLFile)
			d.checkInside(n, h.at, h.hook.URL.Reveal())
		}
	}
	if t := n.Telegram; t != nil {
		d.needSecret("notify.telegram", "token", t.Token, t.TokenFile)
	}
	if t := n.Ntfy; t != nil {
		d.oneSecret("notify.ntfy", "token", t.Token, t.TokenFile)
		d.checkInside(n, "notify.ntfy", t.URL)
	}
}

func (d *decoder) checkMail(m *Mail) {
	if m == nil {
		return
	}
	const at = "notify.mail"
	host, port, _ := net.SplitHostPort(m.SMTP)
	d.rule(port == "465" && m.TLS != TLSImplicit, "write tls: tls, or port 587 for starttls",
		"notify.mail.tls is "+m.TLS.String()+", and port 465 is spoken to in TLS from the first byte on", at+".tls", at+".smtp", at)
	d.rule(port != "465" && m.TLS == TLSNone && !thisHost(host), "write starttls or tls; or leave tls out, and smtp too, for the mail server of this host to pass it on",
		"notify.mail.tls is no, and "+quote(m.SMTP)+" is not this host: whoever is on the way could read along", at+".tls", at+".smtp", at)
	d.oneSecret(at, "password", m.Password, m.PasswordFile)
	given := m.Password != "" || m.PasswordFile != ""
	d.rule(m.User != "" && !given, "name the file that holds it: password_file: /etc/sekisho/mail.password",
		"notify.mail.user is there, and no password", at+".user", at+".password", at+".password_file", at)
	d.rule(m.User == "" && given, "say whose it is: user: sekisho@example.com",
		"notify.mail has a password, and no user", at+".password", at+".password_file", at+".user", at)
}

// oneSecret notes where a secret is both in the file and in another.
func (d *decoder) oneSecret(at, key string, s Secret, file string) {
	path := at + "." + key
	d.rule(s != "" && file != "", "keep one, best the file: this one can be shown to others then",
		path+" and "+path+"_file are both there", path+"_file", path, at)
}

func (d *decoder) needSecret(at, key string, s Secret, file string) {
	path := at + "." + key
	d.oneSecret(at, key, s, file)
	d.rule(s == "" && file == "", "name the file that holds it: "+key+"_file: /etc/sekisho/"+at[len("notify."):]+"."+key,
		at+" has neither "+key+" nor "+key+"_file", path, path+"_file", at)
}

// checkInside notes a URL that names an address in a private network without leave.
func (d *decoder) checkInside(n *Notify, at, url string) {
	hint, wrong := n.inside(url)
	d.rule(wrong != "", hint, at+".url "+wrong, at+".url", "notify.private", at)
}

// inside says that a URL names an address in a private network without leave; "" if not.
func (n *Notify) inside(url string) (hint, wrong string) {
	a, inside := insideOf(url, n.Private)
	if !inside {
		return "", ""
	}
	return "let webhooks in there: notify: {private: [" + a.String() + "]}", "names " + a.String() + ", which is in a private network"
}
