package mail

import (
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/notifytest"
)

// exim is a real mail server that listens at address, with a certificate of roots'.
type exim struct {
	*notifytest.Exim
	address string
	roots   *x509.CertPool
}

func startExim(t *testing.T) *exim {
	t.Helper()
	cert, roots := certificate(t, time.Now().Add(time.Hour), "127.0.0.1")
	certPEM, keyPEM := pems(t, cert)
	e, err := notifytest.NewExim(t, eximConf, map[string][]byte{"cert": []byte(certPEM), "key": []byte(keyPEM)})
	if err != nil {
		t.Skipf("LEFT OUT: no mail server but the test's own was sent to: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.Serve(t, l)
	return &exim{Exim: e, address: l.Addr().String(), roots: roots}
}

// log is what the server says of what it did.
func (e *exim) log() string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(e.Dir, "log", "*"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		b.Write(text)
	}
	return b.String()
}

// mailbox are the mails that ops has, once there are n: a server delivers after it has
// said that it will.
func (e *exim) mailbox(t *testing.T, n int) [][]byte {
	t.Helper()
	var files []string
	for end := time.Now().Add(10 * time.Second); ; {
		var err error
		if files, err = filepath.Glob(filepath.Join(e.Dir, "mail", "ops", "new", "*")); err != nil {
			t.Fatal(err)
		}
		if len(files) >= n {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d mails, want %d\n%s", len(files), n, e.log())
		}
		<-time.After(10 * time.Millisecond)
	}
	var all [][]byte
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	return all
}

// eximConf: mail for example.com is delivered into folders; who has logged in, which takes TLS,
// may send from anywhere, and all others from example.com.
const eximConf = `
primary_hostname = mx.example.com
exim_user = USER
exim_group = GROUP
deliver_drop_privilege = true
spool_directory = DIR/spool
log_file_path = DIR/log/%s
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
helo_allow_chars = _
tls_advertise_hosts = *
tls_certificate = DIR/cert
tls_privatekey = DIR/key
auth_advertise_hosts = ${if eq{$tls_in_cipher}{}{}{*}}
acl_smtp_mail = mail
acl_smtp_rcpt = rcpt
acl_smtp_data = data
message_size_limit = 2M
smtp_accept_max = 0

begin acl
mail:
  accept sender_domains = example.com
  accept authenticated = *
  deny message = sender not allowed without a login
rcpt:
  defer local_parts = grey
        message = Greylisted, please try again later
  deny local_parts = gone
       message = Unknown user
  accept domains = example.com
  deny message = relay not permitted
data:
  require verify = header_syntax
  accept

begin routers
local:
  driver = accept
  domains = example.com
  local_parts = ops
  transport = folder

begin transports
folder:
  driver = appendfile
  maildir_format
  directory = DIR/mail/$local_part_data
  create_directory

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_set_id = $auth2
  server_condition = ${if and{{eq{$auth2}{aladdin}}{eq{$auth3}{correct horse}}}}
`

// TestExim sends to a real server.
func TestExim(t *testing.T) {
	e := startExim(t)
	arrived := 0
	for _, tt := range []struct {
		name   string
		change func(*config.Mail)
		step   string // "": it arrives
		said   string
		hint   string
		final  bool
	}{
		{name: "plainly, within this host"},
		{name: "with STARTTLS", change: func(c *config.Mail) { c.TLS = config.TLSStart }},
		{name: "with a login", change: func(c *config.Mail) {
			c.TLS, c.User, c.Password, c.From = config.TLSStart, "aladdin", password, "elsewhere@example.net"
		}},
		{name: "without the login that it takes", change: func(c *config.Mail) { c.TLS, c.From = config.TLSStart, "elsewhere@example.net" }, step: "sender", said: "sender not allowed", final: true, hint: "`from`"},
		{name: "with a wrong password", change: func(c *config.Mail) { c.TLS, c.User, c.Password = config.TLSStart, "aladdin", "wrong horse" }, step: "log in", said: "Incorrect authentication data", final: true, hint: "app password"},
		{name: "with a login that it does not offer without TLS", change: func(c *config.Mail) { c.User, c.Password = "aladdin", password }, step: "log in", hint: "submission"},
		{name: "implicit TLS at a port of STARTTLS", change: func(c *config.Mail) { c.TLS = config.TLSImplicit }, step: "TLS", hint: "starttls"},
		{name: "to elsewhere", change: func(c *config.Mail) { c.To = []string{"a@example.net"} }, step: "recipient", said: "relay not permitted", final: true, hint: "pass mail on"},
		{name: "to nobody", change: func(c *config.Mail) { c.To = append(c.To, "gone@example.com") }, step: "recipient", said: "Unknown user", final: true, hint: "mailbox"},
		{name: "to one who is greylisted", change: func(c *config.Mail) { c.To = append(c.To, "grey@example.com") }, step: "recipient", said: "Greylisted", hint: "greylisted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := sender(t, e.address, tt.change)
			s.roots = e.roots
			m := message()
			m.Subject = "[web-1] 遮断 203.0.113.7: root, admin"
			err := s.Send(t.Context(), m)
			if tt.step == "" {
				if err != nil {
					t.Fatalf("%v\n%s", err, e.log())
				}
				arrived++
				if n := len(e.mailbox(t, arrived)); n != arrived {
					t.Errorf("%d mails, want %d", n, arrived)
				}
				return
			}
			step := stepOf(t, err)
			if step.Name != tt.step || !strings.Contains(step.Said, tt.said) || !strings.Contains(step.Hint, tt.hint) || step.Final != tt.final {
				t.Errorf("%q, step %q, hint %q, final %v\n%s", err, step.Name, step.Hint, step.Final, e.log())
			}
			if step.Name == "recipient" && slices.Contains(s.config.To, "ops@example.com") {
				arrived++
			}
			if n := len(e.mailbox(t, arrived)); n != arrived {
				t.Errorf("%d mails, want %d", n, arrived)
			}
		})
	}
}

// TestEximInjection sends what is hostile, and looks what is in the mailbox.
func TestEximInjection(t *testing.T) {
	e := startExim(t)
	s := sender(t, e.address, nil)
	sent := 0
	for i, h := range notifytest.Hostile() {
		if len(h) > 1000 && i%2 == 0 {
			continue // one of them will do
		}
		m := notify.Message{ID: fmt.Sprint(i), Subject: h, Text: h, HTML: "<p>" + strings.ToValidUTF8(h, "?") + "</p>"}
		if err := s.Send(t.Context(), m); err != nil {
			t.Fatalf("%.60q: %v\n%s", h, err, e.log())
		}
		sent++
	}
	all := e.mailbox(t, sent)
	if len(all) != sent {
		t.Errorf("%d of %d arrived\n%s", len(all), sent, e.log())
	}
	for _, raw := range all {
		// What the server itself adds stands above what we wrote.
		at := slices.Index(strings.Split(string(raw), "\n"), "Auto-Submitted: auto-generated")
		lines := strings.SplitAfter(string(raw), "\n")
		check(t, []byte(strings.Join(lines[max(at, 0):], "")), "exim")
	}
	if others, _ := filepath.Glob(filepath.Join(e.Dir, "mail", "*")); len(others) != 1 {
		t.Errorf("mailboxes: %q", others)
	}
}
