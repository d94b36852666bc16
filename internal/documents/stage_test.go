package documents

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/cli"
	"sekisho/internal/config"
	"sekisho/internal/lab"
	"sekisho/internal/run"
	"sekisho/internal/securitygroup/ec2test"
)

// beSekisho makes the test's own binary the program.
const beSekisho = "SEKISHO_TEST_BE_SEKISHO"

func TestMain(m *testing.M) {
	if os.Getenv(beSekisho) != "" {
		os.Exit(cli.Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// stage is the machine that a document's commands run in, as root: a lab's host, of whose files
// nothing that is written reaches the real ones.
type stage struct {
	*lab.Lab
	t        *testing.T
	dir      string // shared with it: programs, keys, outputs
	work     string // where commands start
	home     string
	key      string // the user's public key
	ec2      *ec2test.Server
	names    map[string]string        // what documents call groups and rules, and what EC2 does
	places   map[string]ec2test.Place // where those groups are
	session  *lab.Session             // that commands are typed in
	config   sections
	written  string              // what the file says, as long as the stage wrote it
	running  map[string]*program // daemon, gate, and what documents start
	token    string              // of the gate's last add-host
	enrolled bool                // this host is the gate's
	quiet    atomic.Bool         // nobody logs in to confirm a trial
	dirty    bool                // a command has made another file, or switched all off
	logins   sync.WaitGroup
}

// program is what runs until the document is over.
type program struct {
	line  string
	child *run.Child
	said  *output
}

// output is what a program has said so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
	to func(string) // is told of each piece
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	o.b.Write(p)
	said := o.b.String()
	o.mu.Unlock()
	if o.to != nil {
		o.to(said)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// covered are the folders that a stage has a layer of its own over.
var covered = []string{"/usr", "/var", "/opt", "/srv", "/home", "/root"}

func newStage(t *testing.T) *stage {
	t.Helper()
	if err := lab.Available(""); err != nil {
		t.Skipf("LEFT OUT: %v", err)
	}
	for _, name := range []string{"bash", "ssh", "ssh-keygen"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("LEFT OUT: %v", err)
		}
	}
	s := &stage{t: t, names: map[string]string{}, places: map[string]ec2test.Place{}, running: map[string]*program{}}
	var err error
	if s.dir, err = os.MkdirTemp("/tmp", "sekisho-documents-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	s.work = filepath.Join(s.dir, "work")
	me, err := user.Current()
	s.must(err)
	s.home = me.HomeDir
	s.must(os.MkdirAll(s.work+"/bin", 0o755))
	s.must(os.Mkdir(s.dir+"/programs", 0o755))
	s.programs()

	if s.Lab, err = lab.New(t.Context(), lab.Options{System: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s.must(s.InHost(s.cover))
	s.must(s.Host.Do(func() (err error) {
		s.ec2, err = ec2test.New(ec2test.Options{})
		return err
	}))
	t.Cleanup(func() { s.ec2.Close() })
	s.mail()
	if s.session, err = s.Login(t.Context(), lab.Admin4); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.session.Close() })
	s.must(s.InHost(s.rotated))
	attacks := []lab.Attack{
		{Method: lab.Password, From: netip.MustParseAddr("203.0.113.66"), User: "root", Passwords: []string{"a", "b", "c"}, Conns: 2},
		{Method: lab.Password, From: netip.MustParseAddr("203.0.113.67"), User: "oracle", Passwords: []string{"a"}},
	}
	if _, err := s.AttackAll(t.Context(), attacks, 2); err != nil {
		t.Logf("no attacks in the log: %v", err)
	}
	return s
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// programs are those that commands find first: this one, and sudo, which whoever is root already
// does not need.
func (s *stage) programs() {
	self, err := os.Executable()
	s.must(err)
	for _, path := range []string{s.dir + "/programs/sekisho", s.work + "/bin/sekisho"} {
		s.must(os.Symlink(self, path))
	}
	s.must(os.WriteFile(s.dir+"/programs/sudo", []byte("#!/bin/sh\nexec \"$@\"\n"), 0o755))
}

// cover makes the host's files its own. It runs there.
func (s *stage) cover() error {
	layers := "/run/sekisho-documents"
	if err := os.Mkdir(layers, 0o755); err != nil {
		return err
	}
	for _, path := range covered {
		if info, err := os.Lstat(path); err != nil || !info.IsDir() {
			continue
		}
		layer := layers + strings.ReplaceAll(path, "/", "-")
		if err := errors.Join(os.Mkdir(layer, 0o755), os.Mkdir(layer+"-work", 0o755)); err != nil {
			return err
		}
		if err := unix.Mount("overlay", path, "overlay", 0, "lowerdir="+path+",upperdir="+layer+",workdir="+layer+"-work"); err != nil {
			return fmt.Errorf("lay a layer over %s: %w", path, err)
		}
	}
	if err := unix.Mount("tmpfs", "/var/log", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return err
	}
	if err := os.Symlink(s.LogPath, "/var/log/auth.log"); err != nil {
		return err
	}
	for _, dir := range []string{"/etc/sekisho", s.home + "/.ssh"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := os.RemoveAll("/var/lib/sekisho"); err != nil {
		return err
	}
	return errors.Join(s.certify(), s.keys(), fail2ban(), os.WriteFile("/etc/hosts", []byte("127.0.0.1 localhost gate.example.com\n"+
		lab.Host4.String()+" your-host web.example.com web db.example.com\n"), 0o644))
}

// rotated makes the log of the day before.
func (s *stage) rotated() error {
	f, err := os.Create("/var/log/auth.log.1.gz")
	if err != nil {
		return err
	}
	defer f.Close()
	z := gzip.NewWriter(f)
	for i := range 6 {
		fmt.Fprintf(z, "Nov 29 12:00:%02d web sshd[%d]: Failed password for root from 203.0.113.66 port %d ssh2\n", i, 1000+i, 40000+i)
	}
	return z.Close()
}

// fail2ban makes what a fail2ban that banned somebody has left, where none is installed its
// configuration too.
func fail2ban() error {
	const folder = "/var/lib/fail2ban"
	if err := errors.Join(os.RemoveAll(folder), os.Mkdir(folder, 0o700)); err != nil {
		return err
	}
	if _, err := os.Stat("/etc/fail2ban/jail.conf"); err != nil {
		err = errors.Join(os.MkdirAll("/etc/fail2ban/filter.d", 0o755),
			os.WriteFile("/etc/fail2ban/fail2ban.conf", []byte("[Definition]\ndbfile = "+folder+"/fail2ban.sqlite3\n"), 0o644),
			os.WriteFile("/etc/fail2ban/filter.d/sshd.conf", []byte("[Definition]\nmode = normal\n"), 0o644),
			os.WriteFile("/etc/fail2ban/jail.conf", []byte("[sshd]\nenabled = true\nfilter = sshd\nport = ssh\nlogpath = /var/log/auth.log\n"), 0o644))
		if err != nil {
			return err
		}
	}
	db, err := sql.Open("sqlite", folder+"/fail2ban.sqlite3") // package store's driver
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec(`CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL,
		bancount INTEGER NOT NULL DEFAULT 1, data JSON, PRIMARY KEY(ip, jail));
		INSERT INTO bips(ip, jail, timeofban, bantime) VALUES ('203.0.113.67', 'sshd', unixepoch(), 3600)`)
	return err
}

// keys makes the user's key, which opens this host and which the gate knows, and an ssh that
// asks nothing.
func (s *stage) keys() error {
	key := s.home + "/.ssh/id_ed25519"
	os.Remove(key)
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		return err
	}
	s.key = strings.TrimSpace(string(public))
	// Beside the lab's own key, with which the administrator comes from elsewhere.
	known := "/run/sekisho-lab/keys_" + lab.AdminUser
	admin, err := os.ReadFile(known)
	if err != nil {
		return err
	}
	// Whom else documents log in as.
	for path, line := range map[string]string{"/etc/passwd": "ops:x:64010:64010::/:/bin/sh\n", "/etc/shadow": "ops:*:20000:0:99999:7:::\n", "/etc/group": "ops:x:64010:\n"} {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteString(line); err != nil {
			return err
		}
	}
	return errors.Join(
		os.WriteFile("/run/sekisho-lab/keys_ops", public, 0o644),
		os.WriteFile(known, slices.Concat(admin, public), 0o644),
		os.WriteFile("/etc/ssh/ssh_config", []byte("Host *\n  User "+lab.AdminUser+"\n  BatchMode yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"), 0o644),
		os.WriteFile(s.home+"/.ssh/config", nil, 0o600),
	)
}

// certify makes a certificate for the gate, which all programs of the stage trust.
func (s *stage) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gate.example.com"}, DNSNames: []string{"gate.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return errors.Join(
		os.WriteFile("/etc/sekisho/gate.crt", certificate, 0o644),
		os.WriteFile("/etc/sekisho/gate.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		os.WriteFile(s.dir+"/ca.pem", certificate, 0o644),
	)
}

// mail takes mail on the host, and forgets it.
func (s *stage) mail() {
	var listener net.Listener
	s.must(s.Host.Do(func() (err error) {
		listener, err = new(net.ListenConfig).Listen(s.t.Context(), "tcp", "127.0.0.1:25")
		return err
	}))
	s.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go take(conn)
		}
	}()
}

// take is a mail server for one connection.
func take(conn net.Conn) {
	defer conn.Close()
	say := func(line string) { fmt.Fprintf(conn, "%s\r\n", line) }
	say("220 localhost ESMTP")
	data := false
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		line := lines.Text()
		word, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch {
		case data && line == ".":
			data = false
			say("250 taken")
		case data:
		case word == "DATA":
			data = true
			say("354 go on")
		case word == "QUIT":
			say("221 bye")
			return
		default:
			say("250 localhost")
		}
	}
}

// usual is the file where a document has none so far: everything is set up.
const usual = `version: 1
exposure: on_request
people:
  hanako: {fixed: [203.0.113.7], groups: [ops], keys: ["ssh-ed25519 AAAA..."]}
  ichiro: {groups: [ops]}
  taro: {groups: [dev]}
targets:
  web-prod: {aws: {region: ap-northeast-1, group: sg-0123456789abcdef0}, host: web.example.com, allow: [ops], at_most: 8h}
aws:
  accounts:
    prod: {role: "arn:aws:iam::210987654321:role/sekisho", regions: [ap-northeast-1]}
notify:
  mail: {to: [ops@example.com], smtp: localhost:25}
metrics: {listen: 127.0.0.1:9222}
`

// own is what the stage adds to every file: its log, and whose session it is.
func (s *stage) own() sections {
	return split(strings.Split(fmt.Sprintf("admins: [198.51.100.10, %s, %s]\nlog: {source: files, files: [%s]}", lab.Admin4, lab.Admin6, s.LogPath), "\n"))
}

// concrete is a text of a document with this stage's values in place of the document's.
func (s *stage) concrete(text string) string {
	text = concrete(text, s.key)
	for name, id := range s.names {
		text = strings.ReplaceAll(text, name, id)
	}
	return text
}

// configure writes the file, and makes the groups that it names.
func (s *stage) configure(c sections) {
	s.t.Helper()
	if c.names == nil {
		c = split(strings.Split(usual, "\n"))
	}
	s.config = c
	c = c.with(s.own())
	// The person who types has a key that the gate knows, whatever a document leaves out.
	text := concrete(c.String(), s.key)
	if !strings.Contains(text, s.key) {
		text = strings.Replace(text, "  hanako: {", `  hanako: {keys: ["`+s.key+`"], `, 1)
	}
	parsed, err := config.Parse("sekisho.yaml", []byte(text))
	if err != nil {
		s.t.Fatalf("the document's configuration: %v\n%s", err, text)
	}
	accounts := map[string]string{}
	for name, account := range parsed.AWS.Accounts {
		accounts[name] = account.ID
		if arn := strings.Split(account.Role, ":"); len(arn) > 4 {
			s.ec2.AddRole(ec2test.Role{ARN: account.Role, ExternalID: account.ExternalID})
			accounts[name] = arn[4]
		}
	}
	only := ""
	if len(accounts) == 1 { // which a target need not name
		for name := range accounts {
			only = name
		}
	}
	for _, target := range parsed.Targets {
		place := ec2test.Place{Account: accounts[cmp.Or(target.AWS.Account, only)], Region: target.AWS.Region}
		if id := target.AWS.Group; id != "" && (s.names[id] == "" || s.places[id] != place) {
			s.places[id] = place
			group := s.ec2.AddGroup(place, ec2test.Group{Name: "web"})
			s.names[id] = group
			// Somebody's rule by hand, which may be adopted.
			s.names["sgr-"+strings.TrimPrefix(id, "sg-")] = s.ec2.AddRule(place, ec2test.Rule{
				Group: group, Protocol: "tcp", From: int(target.Port), To: int(target.Port), Prefix: netip.MustParsePrefix("203.0.113.7/32"), Description: "hanako",
			})
			s.door(target.Port)
		}
	}
	s.written = s.concrete(text)
	s.must(s.InHost(func() error { return os.WriteFile("/etc/sekisho/sekisho.yaml", []byte(s.written), 0o600) }))
	s.must(os.WriteFile(s.work+"/sekisho.yaml", []byte(s.written), 0o600))
	s.end("daemon")
	s.end("gate")
	if s.dirty {
		s.dirty = false
		if p := s.start("sekisho apply --host --yes --no-wait", ""); true {
			if code, _ := p.finish(30 * time.Second); code != 0 {
				s.t.Fatalf("apply ends with %d: %s", code, p.said)
			}
		}
	}
}

// door has the host's sshd answer at a target's port, too.
func (s *stage) door(port uint16) {
	if port == lab.Port {
		return
	}
	var listener net.Listener
	err := s.Host.Do(func() (err error) {
		listener, err = new(net.ListenConfig).Listen(s.t.Context(), "tcp", netip.AddrPortFrom(lab.Host4, port).String())
		return err
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		return
	}
	s.must(err)
	s.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				server, err := s.Host.Dial(context.Background(), netip.Addr{}, netip.AddrPortFrom(lab.Host4, lab.Port))
				if err != nil {
					return
				}
				defer server.Close()
				go func() {
					_, _ = io.Copy(server, conn)
					_ = server.CloseWrite()
				}()
				_, _ = io.Copy(conn, server)
			}()
		}
	}()
}

// environ is what commands have in their environment.
func (s *stage) environ() []string {
	env := append([]string{
		beSekisho + "=1", "PATH=" + s.dir + "/programs:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + s.home,
		"TERM=xterm", "LC_ALL=C.UTF-8", "SEKISHO_PERSON=hanako", "SSL_CERT_FILE=" + s.dir + "/ca.pem", "CURL_CA_BUNDLE=" + s.dir + "/ca.pem",
		fmt.Sprintf("SSH_CONNECTION=%s %d %s %d", s.session.From.Addr(), s.session.From.Port(), s.session.To.Addr(), s.session.To.Port()),
	}, s.ec2.Environ(ec2test.Place{Region: "ap-northeast-1"})...)
	return env
}

// start starts a command line of a shell. Whenever it has put something on trial, the
// administrator logs in from another terminal, which confirms it.
func (s *stage) start(line, stdin string) *program {
	s.t.Helper()
	return s.startAt(line, stdin, nil)
}

// startAt is start, at a terminal where one is given.
func (s *stage) startAt(line, stdin string, terminal *os.File) *program {
	s.t.Helper()
	p := &program{line: line, said: &output{}}
	seen := 0
	var telling sync.Mutex // standard output and error are told of by two
	p.said.to = func(said string) {
		telling.Lock()
		defer telling.Unlock()
		for n := strings.Count(said, "On trial until"); seen < n && !s.quiet.Load(); seen++ {
			ports := []uint16{lab.Port}
			if m := regexp.MustCompile(`through port (\d+)`).FindAllStringSubmatch(said, -1); m != nil {
				var port uint16
				if _, err := fmt.Sscan(m[len(m)-1][1], &port); err == nil {
					ports = []uint16{port}
				}
			}
			s.logins.Go(func() { s.logIn(ports) })
		}
	}
	in, out, err := os.Pipe()
	s.must(err)
	_, err = out.WriteString(stdin)
	s.must(err)
	s.must(out.Close())
	c := run.Command{
		Args: []string{"bash", "-c", line}, Env: s.environ(), Dir: s.work, Stdin: in, Stdout: p.said, Stderr: p.said,
		Attr: &syscall.SysProcAttr{Setpgid: true},
	}
	if terminal != nil {
		c.Stdin, c.Stdout = terminal, terminal
		c.Attr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	}
	p.child, err = s.Start(context.WithoutCancel(s.t.Context()), c)
	in.Close()
	s.must(err)
	return p
}

// trial puts something on trial, and has commands typed in a session that was opened after it
// began.
func (s *stage) trial() {
	s.t.Helper()
	other := "exposure: public"
	if strings.Contains(s.config.text["exposure"], "public") {
		other = "exposure: on_request"
	}
	text := split(strings.Split(s.written, "\n")).with(split([]string{other})).String()
	s.must(s.InHost(func() error { return os.WriteFile("/etc/sekisho/sekisho.yaml", []byte(text), 0o600) }))
	s.quiet.Store(true)
	p := s.start("sekisho apply --host --within 60s", "")
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(p.said.String(), "On trial until"); {
		if time.Now().After(deadline) {
			s.t.Fatalf("nothing is on trial: %s", p.said)
		}
		<-time.After(20 * time.Millisecond)
	}
	s.quiet.Store(false)
	s.logins.Go(func() { p.finish(90 * time.Second) }) // what becomes of it is the document's command to say
	session, err := s.Login(s.t.Context(), lab.Admin4)
	s.must(err)
	s.t.Cleanup(func() { session.Close() })
	s.session, s.dirty = session, true
}

// terminal is a terminal: a program has one end, whoever types the other.
func terminal() (typist, program *os.File, err error) {
	if typist, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0); err != nil {
		return nil, nil, err
	}
	fd := int(typist.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 100})
	}
	if err == nil {
		program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		typist.Close()
	}
	return typist, program, err
}

// watch runs what draws on a terminal, sees it draw, and leaves it by q.
func (s *stage) watch(line string) (code int, said string) {
	s.t.Helper()
	typist, end, err := terminal()
	s.must(err)
	defer typist.Close()
	p := s.startAt("exec "+line, "", end)
	end.Close()
	shown := &output{}
	drawn := make(chan struct{})
	var once sync.Once
	shown.to = func(said string) {
		if len(said) > 200 {
			once.Do(func() { close(drawn) })
		}
	}
	go func() { _, _ = io.Copy(shown, typist) }()
	select {
	case <-drawn:
	case <-time.After(20 * time.Second):
		s.t.Errorf("%s has drawn nothing in 20 s", line)
	}
	_, err = typist.WriteString("q")
	s.must(err)
	code, ended := p.finish(20 * time.Second)
	if !ended || shown.String() == "" {
		code = -1
	}
	return code, shown.String() + p.said.String()
}

// logIn is the administrator at another terminal.
func (s *stage) logIn(ports []uint16) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 20*time.Second)
	defer cancel()
	for _, port := range ports {
		session, err := s.LoginAt(ctx, lab.Admin4, port)
		if err != nil {
			s.t.Logf("the login that is to confirm: %v", err)
			continue
		}
		s.t.Cleanup(func() { session.Close() })
	}
}

// finish waits for a program's end, and says how it ended.
func (p *program) finish(patience time.Duration) (code int, ended bool) {
	timer := time.AfterFunc(patience, func() { _ = syscall.Kill(-p.child.PID(), syscall.SIGKILL) })
	err := p.child.Wait()
	ended = timer.Stop()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), ended
	}
	if err != nil {
		return -1, ended
	}
	return 0, ended
}

// keep starts what never ends, under a name, once; and waits until it is there.
func (s *stage) keep(name, line string, there func(*program) bool) {
	s.t.Helper()
	if s.running[name] != nil {
		return
	}
	p := s.start("exec "+line, "")
	s.running[name] = p
	deadline := time.Now().Add(20 * time.Second)
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for !there(p) {
		if syscall.Kill(p.child.PID(), 0) != nil || time.Now().After(deadline) {
			s.t.Fatalf("%s does not begin: %s", line, p.said)
		}
		<-every.C
	}
}

// end ends what runs under a name, if anything.
func (s *stage) end(name string) {
	s.t.Helper()
	p := s.running[name]
	if p == nil {
		return
	}
	delete(s.running, name)
	_ = syscall.Kill(p.child.PID(), syscall.SIGTERM)
	if code, ended := p.finish(30 * time.Second); code != 0 || !ended {
		s.t.Errorf("%s ended with %d: %s", p.line, code, p.said)
	}
}

// ends ends all that runs.
func (s *stage) ends() {
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range s.running {
			if !yield(n) {
				return
			}
		}
	}) {
		s.end(name)
	}
	s.logins.Wait()
}

func (s *stage) answers(port uint16) bool {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
	defer cancel()
	conn, err := s.Host.Dial(ctx, netip.Addr{}, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// serves reports whether the file makes this machine a gate that people reach without a proxy.
func (s *stage) serves() bool { return strings.Contains(s.config.text["gate"], ":443\"") }

// daemon has the daemon run.
func (s *stage) daemon() {
	s.t.Helper()
	if strings.Contains(s.config.text["gate"], "serve:") { // of its own, or none

		s.keep("daemon", "sekisho run --without-gate", s.listens)
		return
	}
	s.keep("daemon", "sekisho run", s.listens)
}

func (s *stage) listens(*program) bool {
	return s.InHost(func() error {
		conn, err := net.Dial("unix", "/run/sekisho/sekisho.sock")
		if err == nil {
			conn.Close()
		}
		return err
	}) == nil
}

// gate has a gate answer at https://gate.example.com, which knows the user as an administrator.
func (s *stage) gate() {
	s.t.Helper()
	if s.answers(443) {
		return
	}
	if s.config.text["gate"] == "" {
		s.configure(s.config.with(split([]string{`gate: {url: "https://gate.example.com"}`})))
	}
	file := "/etc/sekisho/sekisho.yaml"
	if !s.serves() {
		c := s.config.with(s.own())
		if !strings.Contains(c.text["people"], "hanako") {
			c = split(strings.Split(usual, "\n")).with(s.own())
		}
		c = c.with(split([]string{`gate: {url: "https://gate.example.com", serve: {listen: ["127.0.0.1:443"], tls: {cert: /etc/sekisho/gate.crt, key: /etc/sekisho/gate.key}, admins: [hanako]}}`}))
		text := s.concrete(c.String())
		if !strings.Contains(text, s.key) {
			text = strings.Replace(text, "  hanako: {", `  hanako: {keys: ["`+s.key+`"], `, 1)
		}
		file = "/etc/sekisho/gate.yaml"
		s.must(s.InHost(func() error { return os.WriteFile(file, []byte(text), 0o600) }))
	}
	s.keep("gate", "sekisho --config "+file+" --state-dir /var/lib/sekisho-gate --socket /run/sekisho-gate.sock gate", func(*program) bool { return s.answers(443) })
}
