package mail

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is an SMTP server that misbehaves as it is told: by words, the answers to commands; a
// command that is not in it is answered as a good server does.
type fake struct {
	greeting string            // "-": none
	answers  map[string]string // by command, or command and argument, such as "RCPT TO:<a@example.com>"; "" drops the connection, "-" says nothing
	offers   []string          // extensions
	cert     *tls.Certificate  // with STARTTLS, where it is offered
	implicit bool

	mu       sync.Mutex
	commands []string
	mails    []string
}

func (f *fake) start(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ended := make(chan struct{})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				raw := conn
				defer raw.Close()
				stop := make(chan struct{})
				defer close(stop)
				go func() {
					select {
					case <-ended:
						raw.Close()
					case <-stop:
					}
				}()
				if f.implicit {
					conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*f.cert}})
				}
				f.serve(conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); close(ended); wg.Wait() })
	return l.Addr().String()
}

func (f *fake) serve(conn net.Conn) {
	defer conn.Close()
	say := func(s string) bool {
		_, err := io.WriteString(conn, strings.ReplaceAll(s, "\n", "\r\n")+"\r\n")
		return err == nil
	}
	in := bufio.NewReader(conn)
	switch f.greeting {
	case "":
		say("220 mx.example.com ESMTP")
	case "-":
	case "endless":
		for say("220-" + strings.Repeat("x", 500)) {
		}
		return
	case "line":
		for {
			if _, err := io.WriteString(conn, strings.Repeat("220 ", 1000)); err != nil {
				return
			}
		}
	default:
		say(f.greeting)
	}
	logins := 0
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		f.mu.Lock()
		f.commands = append(f.commands, line)
		f.mu.Unlock()
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		if logins > 0 {
			verb, logins = "LOGIN", logins-1
		}
		answer, set := f.answers[line]
		if !set {
			answer, set = f.answers[verb]
		}
		switch {
		case set && answer == "":
			return
		case set && answer == "-":
			continue
		case set && verb != "DATA":
			say(answer)
			continue
		}
		switch verb {
		case "EHLO":
			offers := append([]string{"mx.example.com"}, f.offers...)
			for i, o := range offers {
				mark := "-"
				if i == len(offers)-1 {
					mark = " "
				}
				say("250" + mark + o)
			}
		case "STARTTLS":
			say("220 go on")
			conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*f.cert}})
			in = bufio.NewReader(conn)
		case "AUTH":
			if strings.HasPrefix(line, "AUTH LOGIN") {
				say("334 VXNlcm5hbWU6")
				logins = 2
				continue
			}
			say("235 welcome")
		case "LOGIN":
			if logins > 0 {
				say("334 UGFzc3dvcmQ6")
			} else {
				say("235 welcome")
			}
		case "DATA":
			if set && !strings.HasPrefix(answer, "354") {
				say(answer)
				continue
			}
			say("354 go on")
			var b strings.Builder
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				b.WriteString(strings.TrimPrefix(line, "."))
			}
			end, set := f.answers["."]
			switch {
			case set && end == "":
				return
			case set && end == "-":
				continue
			case set:
				say(end)
				continue
			}
			f.mu.Lock()
			f.mails = append(f.mails, b.String())
			f.mu.Unlock()
			say("250 2.0.0 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 2.0.0 well")
		}
	}
}

func (f *fake) got() (commands, mails []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.commands, f.mails
}

// certificate makes one that signs itself, and a pool that trusts it.
func certificate(t *testing.T, until time.Time, names ...string) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until,
		DNSNames: names, IPAddresses: []net.IP{}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if names[0] == "127.0.0.1" {
		template.IPAddresses = append(template.IPAddresses, net.IPv4(127, 0, 0, 1))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parsed}, pool
}

// pems are a certificate and its key as files have them.
func pems(t *testing.T, c *tls.Certificate) (cert, key []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
