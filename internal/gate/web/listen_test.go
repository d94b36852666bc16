package web

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func quietly() *slog.Logger { return slog.New(slog.DiscardHandler) }

// pair writes a certificate for localhost, whose name tells it apart from others.
func pair(t *testing.T, dir, name string) (Files, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for file, block := range map[string]*pem.Block{f.Cert: {Type: "CERTIFICATE", Bytes: der}, f.Key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(parsed)
	return f, pool
}

// served serves h until the test ends and returns its address.
func served(t testing.TB, h http.Handler, s Serving) string {
	t.Helper()
	if s.Listeners == nil {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.Listeners = []net.Listener{l}
	}
	l := s.Listeners[0]
	if s.Logger == nil {
		s.Logger = quietly()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, h, s) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func saying(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text) })
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func TestServeRefusesPlainHTTPWhereStrangersAre(t *testing.T) {
	behind := Trust{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Header: XForwardedFor}
	for _, tt := range []struct {
		name  string
		addr  net.Addr
		trust Trust
		ok    bool
	}{
		{"loopback", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, Trust{}, true},
		{"loopback of IPv6", &net.TCPAddr{IP: net.IPv6loopback, Port: 1}, Trust{}, true},
		{"a socket in the file system", &net.UnixAddr{Net: "unix", Name: "/run/x"}, Trust{}, true},
		{"everywhere", &net.TCPAddr{IP: net.IPv6unspecified, Port: 1}, Trust{}, false},
		{"an address", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, Trust{}, false},
		{"behind listed proxies", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}, behind, true},
		{"a header that nobody is believed to write", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}, Trust{Header: XForwardedFor}, false},
		{"proxies without a header", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}, Trust{Proxies: behind.Proxies}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := plainAllowed(tt.addr, tt.trust); (err == nil) != tt.ok {
				t.Errorf("got %v, want allowed: %v", err, tt.ok)
			}
		})
	}
}

func TestServeTLS(t *testing.T) {
	dir := t.TempDir()
	files, pool := pair(t, dir, "first")
	addr := served(t, saying("hello"), Serving{TLS: files, checkEvery: 5 * time.Millisecond})
	handshake := func(config *tls.Config) (tls.ConnectionState, error) {
		config.ServerName = "localhost"
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr, config)
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer c.Close()
		return c.ConnectionState(), nil
	}
	if _, err := handshake(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if s, err := handshake(&tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12}); err != nil || s.Version != tls.VersionTLS12 {
		t.Errorf("TLS 1.2: %v", err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}, ForceAttemptHTTP2: true}}
	r, err := client.Get("https://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(r.Body)
	r.Body.Close()
	if r.ProtoMajor != 2 || string(body) != "hello" {
		t.Errorf("got %s, %q", r.Proto, body)
	}

	t.Run("as many streams of a connection as may be", func(t *testing.T) {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr, &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, http2.ClientPreface)
		framer := http2.NewFramer(c, c)
		if err := framer.WriteSettings(); err != nil {
			t.Fatal(err)
		}
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		settings, ok := f.(*http2.SettingsFrame)
		if !ok {
			t.Fatalf("got %v", f)
		}
		if n, ok := settings.Value(http2.SettingMaxConcurrentStreams); !ok || n != 100 {
			t.Errorf("%d streams", n)
		}
		if n, ok := settings.Value(http2.SettingMaxHeaderListSize); !ok || n > 20<<10 {
			t.Errorf("headers of %d bytes", n)
		}
	})

	t.Run("a certificate is read anew", func(t *testing.T) {
		// Half of a change leaves the old one in use.
		if err := os.WriteFile(files.Key, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(20 * time.Second)
		for range 10 {
			if _, err := handshake(&tls.Config{RootCAs: pool}); err != nil {
				t.Fatalf("while the files do not fit: %v", err)
			}
		}
		_, fresh := pair(t, dir, "second")
		for {
			s, err := handshake(&tls.Config{RootCAs: fresh})
			if err == nil && s.PeerCertificates[0].Subject.CommonName == "second" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the new certificate is not in use: %v", err)
			}
		}
	})

	t.Run("a stalled handshake holds up nobody", func(t *testing.T) {
		stalled := served(t, saying("hello"), Serving{TLS: files, Limits: Limits{ReadHeader: 300 * time.Millisecond}})
		var held []net.Conn
		for range 50 {
			c := dial(t, stalled)
			c.Write([]byte{0x16, 0x03, 0x01}) // the beginning of a record, and no more
			held = append(held, c)
		}
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", stalled, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		for _, c := range held {
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("a stalled handshake is not ended")
			}
		}
	})
}

func TestServeEndsSlowClients(t *testing.T) {
	addr := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "read")
	}), Serving{Limits: Limits{ReadHeader: 200 * time.Millisecond, Read: 400 * time.Millisecond, Write: 400 * time.Millisecond, Idle: 200 * time.Millisecond}})
	for _, tt := range []struct {
		name string
		send string
		drip string // again and again
	}{
		{name: "nothing at all"},
		{name: "a header, byte by byte", send: "GET / HTTP/1.1\r\nHost: x\r\n", drip: "X-A: b\r\n"},
		{name: "a body, byte by byte", send: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", drip: "a"},
		{name: "idle between requests", send: "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, addr)
			began := time.Now()
			io.WriteString(c, tt.send)
			stop := make(chan struct{})
			if tt.drip != "" {
				go func() {
					tick := time.NewTicker(50 * time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-stop:
							return
						case <-tick.C:
							io.WriteString(c, tt.drip)
						}
					}
				}()
			}
			_, err := io.Copy(io.Discard, c)
			close(stop)
			if errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > 10*time.Second {
				t.Errorf("the connection lasts: %v after %v", err, time.Since(began))
			}
		})
	}
	t.Run("who does not read", func(t *testing.T) {
		var left = make(chan error, 1)
		endless := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					left <- err
					return
				}
			}
		}), Serving{Limits: Limits{Write: 200 * time.Millisecond}})
		io.WriteString(dial(t, endless), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		select {
		case <-left:
		case <-time.After(20 * time.Second):
			t.Error("an answer that nobody reads is written for ever")
		}
	})
}

func TestServeBoundsHeaders(t *testing.T) {
	addr := served(t, saying("hello"), Serving{})
	for _, tt := range []struct {
		name   string
		header string
		want   int
	}{
		{"what a browser sends", "Cookie: " + strings.Repeat("a", 4<<10), 200},
		{"one long", "X-A: " + strings.Repeat("a", 32<<10), 431},
		{"many short", strings.TrimSuffix(strings.Repeat("X-A: b\r\n", 4<<10), "\r\n"), 431},
		{"two hosts", "Host: y", 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, addr)
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", tt.header)
			r, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Body.Close()
			if r.StatusCode != tt.want {
				t.Errorf("got %d, want %d", r.StatusCode, tt.want)
			}
		})
	}
}

// closed reports whether the server closes a connection without a word.
func closed(t *testing.T, c net.Conn) bool {
	t.Helper()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	b := make([]byte, 12)
	n, _ := io.ReadFull(c, b)
	return n == 0
}

func TestServeBoundsConnections(t *testing.T) {
	t.Run("of one source", func(t *testing.T) {
		addr := served(t, saying("hello"), Serving{Limits: Limits{PerSource: 5}})
		var open []net.Conn
		for i := range 5 {
			c := dial(t, addr)
			if closed(t, c) {
				t.Fatalf("connection %d is refused", i)
			}
			open = append(open, c)
		}
		if !closed(t, dial(t, addr)) {
			t.Error("a sixth connection is taken")
		}
		// Another source is not in the way of the first.
		other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
		c, err := other.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if closed(t, c) {
			t.Error("another source is refused")
		}
		open[0].Close()
		deadline := time.Now().Add(10 * time.Second)
		for closed(t, dial(t, addr)) {
			if time.Now().After(deadline) {
				t.Fatal("the room of a closed connection is not given back")
			}
		}
	})
	t.Run("who is known does not count", func(t *testing.T) {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { known(r.Context()) })
		addr := served(t, h, Serving{Limits: Limits{PerSource: 2}})
		for i := range 6 {
			if closed(t, dial(t, addr)) {
				t.Fatalf("connection %d is refused", i)
			}
		}
	})
	t.Run("of all", func(t *testing.T) {
		addr := served(t, saying("hello"), Serving{Limits: Limits{Conns: 3, PerSource: 100}})
		for range 3 {
			if closed(t, dial(t, addr)) {
				t.Fatal("refused")
			}
		}
		if !closed(t, dial(t, addr)) {
			t.Error("a fourth connection is taken")
		}
	})
	t.Run("a listed proxy is many people", func(t *testing.T) {
		addr := served(t, saying("hello"), Serving{
			Limits: Limits{PerSource: 1},
			Trust:  Trust{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Header: XForwardedFor},
		})
		for range 5 {
			if closed(t, dial(t, addr)) {
				t.Fatal("a proxy is refused")
			}
		}
	})
}

// One customer's /48 holds no more than eight of its networks may.
func TestDoorBoundsNetworks(t *testing.T) {
	d := &door{max: 1000, perSource: 2, from: map[netip.Prefix]int{}}
	var in []*conn
	for i := range 100 {
		if p := source(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: byte(i)})); d.enter(p, false) {
			in = append(in, &conn{door: d, from: p})
		}
	}
	if len(in) != 16 {
		t.Errorf("%d connections from one /48, want 16", len(in))
	}
	other := source(netip.MustParseAddr("2001:db8:1::1"))
	if !d.enter(other, false) {
		t.Error("another network is refused")
	}
	// Of who is known one may be more, in both counts.
	d.know(in[0])
	d.know(in[0])
	if !d.enter(in[0].from, false) || d.enter(in[0].from, false) {
		t.Errorf("who is known counts still, or twice: %v", d.from)
	}
	for _, c := range append(in, &conn{door: d, from: other}, &conn{door: d, from: in[0].from}) {
		d.leave(c)
		d.leave(c)
		d.know(c)
	}
	if d.all != 0 || len(d.from) != 0 {
		t.Errorf("%d are counted still: %v", d.all, d.from)
	}
}

func TestKnownThroughTLS(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	d := &door{max: 10, perSource: 1, from: map[netip.Prefix]int{}}
	c := &conn{Conn: a, door: d, from: netip.MustParsePrefix("192.0.2.1/32")}
	if !d.enter(c.from, false) {
		t.Fatal("refused")
	}
	known(t.Context()) // a request that came by no connection of ours: the function's
	known(withConn(t.Context(), tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS12})))
	if !c.known || len(d.from) != 0 || d.all != 1 {
		t.Errorf("known: %v, counted: %v, all: %d", c.known, d.from, d.all)
	}
}

func TestSource(t *testing.T) {
	for _, tt := range []struct{ name, addr, want string }{
		{"IPv4", "192.0.2.1", "192.0.2.1/32"},
		{"IPv4 in IPv6", "::ffff:192.0.2.1", "192.0.2.1/32"},
		{"IPv6 is a customer's network", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"},
		{"a zone", "fe80::1%eth0", "fe80::/64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := source(netip.MustParseAddr(tt.addr)); got.String() != tt.want {
				t.Errorf("got %v, want %s", got, tt.want)
			}
		})
	}
}

// Streams end when the gate does; what else has begun is answered.
func TestServeEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	begun := make(chan struct{}, 2)
	end := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		begun <- struct{}{}
		if r.URL.Path == "/stream" {
			streams, stop := streaming(r.Context())
			defer stop()
			<-streams.Done()
			return
		}
		<-end
		fmt.Fprintf(w, "%v", r.Context().Err())
	})
	go func() { done <- Serve(ctx, h, Serving{Listeners: []net.Listener{l}, Logger: quietly()}) }()
	stream, request := dial(t, l.Addr().String()), dial(t, l.Addr().String())
	io.WriteString(stream, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
	io.WriteString(request, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-begun
	<-begun
	cancel()
	if _, err := io.Copy(io.Discard, stream); err != nil {
		t.Errorf("the stream lasts: %v", err)
	}
	close(end)
	if all, err := io.ReadAll(request); err != nil || !strings.Contains(string(all), "<nil>") {
		t.Errorf("a request was given up: %q, %v", all, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// idleEnv has another process of this test hold connections open, for one process may not
// have both ends of so many.
const idleEnv = "SEKISHO_TEST_IDLE"

// idlers opens as many connections as it is told, each with a request that is answered, and
// holds them until its input ends.
func idlers(addr string, n int) {
	for i := range n {
		// 64 sources, so that none has more than it may.
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%200))}, Timeout: 30 * time.Second}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			fmt.Println("error:", i, err)
			return
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := io.ReadFull(c, make([]byte, 12)); err != nil {
			fmt.Println("error:", i, err)
			return
		}
		hold = append(hold, c)
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

var hold []net.Conn // so that nothing closes them

func TestMain(m *testing.M) {
	if addr, n, ok := strings.Cut(os.Getenv(idleEnv), " "); ok {
		count, _ := strconv.Atoi(n)
		idlers(addr, count)
		return
	}
	os.Exit(m.Run())
}

func TestServeTenThousandIdleConnections(t *testing.T) {
	const idle = 10_000
	if testing.Short() {
		t.Skip("LEFT OUT: -short: 10,000 connections take long")
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < idle+200 {
		t.Skipf("LEFT OUT: a process may have %d files open here (RLIMIT_NOFILE), and %d are needed", limit.Cur, idle+200)
	}
	addr := served(t, saying("hello"), Serving{})
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), idleEnv+"="+addr+" "+strconv.Itoa(idle))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); cmd.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int64(after.Sys-before.Sys) / idle
	t.Logf("%d idle connections take %d MB of memory, %d bytes each", idle, (after.Sys-before.Sys)>>20, each)
	if each > 32<<10 {
		t.Errorf("an idle connection takes %d bytes", each)
	}
	var took []time.Duration
	for range 50 {
		began := time.Now()
		c := dial(t, addr)
		if closed(t, c) {
			t.Fatal("nothing is answered beside them")
		}
		took = append(took, time.Since(began))
		c.Close()
	}
	slices.Sort(took)
	if slowest := took[len(took)-1]; slowest > 2*time.Second {
		t.Errorf("an answer beside them took %v", slowest)
	}
}

// What strangers send is in the log as a quoted attribute, at the debugging level.
func TestServeLogsStrangersQuoted(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	slog.NewLogLogger(quiet{log.Handler()}, slog.LevelDebug).Print("http: evil\nlevel=ERROR msg=\"you are owned\"")
	if got := b.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=DEBUG") {
		t.Errorf("got %q", got)
	}
}
