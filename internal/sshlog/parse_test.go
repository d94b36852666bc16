package sshlog_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sekisho/internal/sshlog"
)

func TestParse(t *testing.T) {
	peer := netip.MustParseAddr("203.0.113.9")
	tests := []struct {
		name string
		msg  string
		want sshlog.Event // Repeat 0 stands for 1; Kind None for a message that says nothing
	}{
		{"not ours", "Server listening on 0.0.0.0 port 22.", sshlog.Event{}},
		{"empty", "", sshlog.Event{}},
		{"debug", "debug1: userauth-request for user root from 203.0.113.9 port 22 [preauth]", sshlog.Event{}},
		{"not known, no address", "error: something else", sshlog.Event{}},
		{"not known, address", "banned peer 203.0.113.9: bye", sshlog.Event{Kind: sshlog.Unknown}},
		{"not known, IPv6", "banned peer [2001:db8::9]:22", sshlog.Event{Kind: sshlog.Unknown}},
		{"version is no address", "fatal: OpenSSH 10.5.1 and 1:2 at 03:04:05.123", sshlog.Event{}},
		{"v4-mapped", "Invalid user a from ::ffff:203.0.113.9 port 1", sshlog.Event{Kind: sshlog.InvalidUser, Addr: peer, Port: 1, User: []byte("a"), Invalid: true}},
		{"name like the format's own words", "Invalid user invalid user a from 203.0.113.9 port 1", sshlog.Event{Kind: sshlog.InvalidUser, Addr: peer, Port: 1, User: []byte("invalid user a"), Invalid: true}},
		{"empty name", "Invalid user  from 203.0.113.9 port 1", sshlog.Event{Kind: sshlog.InvalidUser, Addr: peer, Port: 1, User: []byte{}, Invalid: true}},
		{"empty name in a close", "Connection closed by invalid user  203.0.113.9 port 1 [preauth]", sshlog.Event{Kind: sshlog.Closed, Addr: peer, Port: 1, User: []byte{}, Invalid: true, Preauth: true}},
		{"name with a false peer", "Failed password for invalid user x from 8.8.8.8 port 22 ssh2 from 203.0.113.9 port 4 ssh2", sshlog.Event{Kind: sshlog.Failed, Method: sshlog.MethodPassword, Addr: peer, Port: 4, User: []byte("x from 8.8.8.8 port 22 ssh2"), Invalid: true}},
		{"port too high", "Invalid user a from 203.0.113.9 port 65536", sshlog.Event{Kind: sshlog.Unknown}},
		{"text behind the port", "Failed password for root from 203.0.113.9 port 4 ssh2 more", sshlog.Event{Kind: sshlog.Unknown}},
		{"host name for an address", "Failed password for root from host.example.net port 22 ssh2", sshlog.Event{Kind: sshlog.Failed, Method: sshlog.MethodPassword, Port: 22, User: []byte("root")}},
		{"unknown peer", "Connection closed by UNKNOWN port 65535 [preauth]", sshlog.Event{Kind: sshlog.Closed, Port: 65535, Preauth: true}},
		{"disconnect code", "error: Received disconnect from 203.0.113.9 port 4:3: com.jcraft.jsch.JSchException: Auth fail [preauth]", sshlog.Event{Kind: sshlog.AuthFailDisconnect, Addr: peer, Port: 4, Preauth: true, Code: 3, Reason: []byte("com.jcraft.jsch.JSchException: Auth fail")}},
		{"disconnect text with a peer", "Received disconnect from 203.0.113.9 port 4:11: Connection closed by 8.8.8.8 port 22 [preauth] [preauth]", sshlog.Event{Kind: sshlog.ReceivedDisconnect, Addr: peer, Port: 4, Preauth: true, Code: 11, Reason: []byte("Connection closed by 8.8.8.8 port 22 [preauth]")}},
		{"listener's timeout", "Timeout before authentication for connection from 203.0.113.9 to 192.0.2.1, pid = 4711 (early)", sshlog.Event{Kind: sshlog.Timeout, Addr: peer, Child: 4711}},
		{"penalty of a network", "srclimit_penalise: 2001:db8::/64: activating ipv6 penalty of 16.000 seconds for penalty: exceeded LoginGraceTime", sshlog.Event{Kind: sshlog.Penalty, Prefix: netip.MustParsePrefix("2001:db8::/64"), Reason: []byte("exceeded LoginGraceTime")}},
		{"penalty of an address", "srclimit_penalise: ipv4: new 203.0.113.9/32 active penalty of 90 seconds for penalty: caused crash", sshlog.Event{Kind: sshlog.Penalty, Addr: peer, Prefix: netip.MustParsePrefix("203.0.113.9/32"), Reason: []byte("caused crash")}},
		{"rhost is a name", "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=host.example.net  user=root", sshlog.Event{Kind: sshlog.PAMFailure, User: []byte("root")}},
		{"rhost is empty and the name imitates it", "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=  user=x rhost=8.8.8.8", sshlog.Event{Kind: sshlog.PAMFailure, User: []byte("x rhost=8.8.8.8")}},
		{"session with a path for a name", "pam_unix(sshd:session): session opened for user hanako(uid=1000) by (uid=0)", sshlog.Event{Kind: sshlog.SessionOpened, User: []byte("hanako")}},
		{"carriage return", "Connection closed by 203.0.113.9 port 4\r", sshlog.Event{Kind: sshlog.Closed, Addr: peer, Port: 4}},
		{"repeated", "message repeated 5 times: [ Failed password for root from 203.0.113.9 port 4 ssh2]", sshlog.Event{Kind: sshlog.Failed, Method: sshlog.MethodPassword, Addr: peer, Port: 4, User: []byte("root"), Repeat: 5}},
		{"repeated too often to be true", "message repeated 99999999 times: [ Failed password for root from 203.0.113.9 port 4 ssh2]", sshlog.Event{Kind: sshlog.Unknown}},
		{"repeated twice over", "message repeated 5 times: [ message repeated 5 times: [ Invalid user a from 203.0.113.9 port 4]]", sshlog.Event{Kind: sshlog.Unknown, Repeat: 5}},
		{"name that repeats", "Invalid user message repeated 5 times: [ from 203.0.113.9 port 4", sshlog.Event{Kind: sshlog.InvalidUser, Addr: peer, Port: 4, User: []byte("message repeated 5 times: ["), Invalid: true}},
		{"broken session is no attempt", "fatal: packet_write_wait: Connection from 203.0.113.9 port 4: Broken pipe", sshlog.Event{Kind: sshlog.Note, Addr: peer, Port: 4, Reason: []byte("Broken pipe")}},
		{"user's text does not make a tag", "session_input_channel_req: no session 0 req x: Connection from 8.8.8.8 port 22: y", sshlog.Event{Kind: sshlog.Unknown}},
		{"IPv6 peer behind a name that ends in a peer", "Disconnecting invalid user x 8.8.8.8 port 2001:db8::9 port 4: bye [preauth]", sshlog.Event{Kind: sshlog.Disconnecting, Addr: netip.MustParseAddr("2001:db8::9"), Port: 4, User: []byte("x 8.8.8.8 port"), Invalid: true, Preauth: true, Reason: []byte("bye")}},
		{"peer that ends in colons", "Disconnecting invalid user x 8.8.8.8 port 2001:: port 4: bye [preauth]", sshlog.Event{Kind: sshlog.Disconnecting, Addr: netip.MustParseAddr("2001::"), Port: 4, User: []byte("x 8.8.8.8 port"), Invalid: true, Preauth: true, Reason: []byte("bye")}},
		{"Apple's PAM message", "error: PAM: authentication error for illegal user x from 8.8.8.8 via 9.9.9.9 from 203.0.113.9 via 192.0.2.1", sshlog.Event{Kind: sshlog.PAMError, Addr: peer, User: []byte("x from 8.8.8.8 via 9.9.9.9"), Invalid: true, Reason: []byte("authentication error")}},
		{"name like Apple's PAM message", "error: PAM: Authentication failure for x from 8.8.8.8 via 9.9.9.9 from 203.0.113.9", sshlog.Event{Kind: sshlog.PAMError, Addr: peer, User: []byte("x from 8.8.8.8 via 9.9.9.9"), Reason: []byte("Authentication failure")}},
		{"HPN", "SSH: Server;Ltype: Version;Remote: 203.0.113.9-40022;Protocol: 2.0;Client: x", sshlog.Event{Kind: sshlog.Note, Addr: peer, Port: 40022}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got sshlog.Event
			found := sshlog.Parse([]byte(tt.msg), &got)
			if tt.want.Repeat == 0 {
				tt.want.Repeat = 1
			}
			if found != (tt.want.Kind != sshlog.None) {
				t.Errorf("Parse(%q) = %v", tt.msg, found)
			}
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", tt.msg, diff)
			}
		})
	}
}

// TestCorpus reads whole logs, with what each line means written above it.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/corpus/*.log")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			d := sshlog.NewDecoder(sshlog.DecoderOptions{Location: time.UTC, Reference: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)})
			var got bytes.Buffer
			for line := range bytes.Lines(content) {
				line = bytes.TrimSuffix(line, []byte("\n"))
				if bytes.HasPrefix(line, []byte("#")) {
					continue
				}
				fmt.Fprintf(&got, "# %s\n%s\n", describe(d, line), line)
			}
			golden(t, file, got.Bytes())
		})
	}
}

func describe(d *sshlog.Decoder, raw []byte) string {
	var l sshlog.Line
	if !d.Decode(raw, &l) {
		return "not sshd's"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s pid=%d", time.Unix(0, l.Time).UTC().Format("2006-01-02T15:04:05.999999Z"), l.PID)
	var ev sshlog.Event
	if !sshlog.Parse(l.Message, &ev) {
		return b.String() + " none"
	}
	b.WriteString(" " + ev.Word())
	if ev.Addr.IsValid() {
		fmt.Fprintf(&b, " %v", netip.AddrPortFrom(ev.Addr, ev.Port))
	}
	if ev.User != nil {
		fmt.Fprintf(&b, " user=%q", ev.User)
	}
	if ev.Invalid {
		b.WriteString(" invalid")
	}
	if ev.Preauth {
		b.WriteString(" preauth")
	}
	if ev.Repeat != 1 {
		fmt.Fprintf(&b, " repeat=%d", ev.Repeat)
	}
	if ev.Child != 0 {
		fmt.Fprintf(&b, " child=%d", ev.Child)
	}
	if ev.Code != 0 {
		fmt.Fprintf(&b, " code=%d", ev.Code)
	}
	return b.String()
}

func FuzzParse(f *testing.F) {
	for _, info := range sshlog.Kinds() {
		for _, s := range info.Samples {
			f.Add([]byte(s.Message))
		}
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		var ev sshlog.Event
		found := sshlog.Parse(msg, &ev)
		if found != (ev.Kind != sshlog.None) || ev.Repeat < 1 {
			t.Fatalf("Parse(%q) = %v, kind %v, repeat %d", msg, found, ev.Kind, ev.Repeat)
		}
		if ev.Kind == sshlog.Unknown && (ev.Addr.IsValid() || ev.User != nil) {
			t.Fatalf("Parse(%q) guesses: %v %q", msg, ev.Addr, ev.User)
		}
		if ev.Addr.IsValid() && !holds(msg, ev.Addr) {
			t.Fatalf("Parse(%q) = %v, which is not there", msg, ev.Addr)
		}
		if ev.User != nil && !bytes.Contains(msg, ev.User) || ev.Reason != nil && !bytes.Contains(msg, ev.Reason) {
			t.Fatalf("Parse(%q): user %q or reason %q is not there", msg, ev.User, ev.Reason)
		}
		var again sshlog.Event
		if sshlog.Parse(msg, &again); !cmp.Equal(ev, again, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })) {
			t.Fatalf("Parse(%q) is not the same twice", msg)
		}
	})
}

// holds reports whether some spelling of a stands in b.
func holds(b []byte, a netip.Addr) bool {
	spelling := func(r rune) bool {
		return r < '0' || r > '9' && r < 'A' || r > 'F' && r < 'a' || r > 'f'
	}
	if a.Zone() != "" {
		return bytes.Contains(b, []byte("%"+a.Zone()))
	}
	words := bytes.FieldsFunc(b, func(r rune) bool { return spelling(r) && r != '.' && r != ':' })
	for _, w := range words {
		for i := range w {
			for j := i + 2; j <= len(w); j++ {
				if got, err := netip.ParseAddr(string(w[i:j])); err == nil && got.Unmap() == a {
					return true
				}
			}
		}
	}
	return false
}

// The hand-made parser of addresses is netip's, seen through a message.
func TestAddressesAreNetips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text string
		switch rapid.IntRange(0, 3).Draw(t, "how") {
		case 0:
			b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6")
			for i, zero := range rapid.SliceOfN(rapid.Bool(), 16, 16).Draw(t, "zeros") {
				if zero {
					b[i] = 0
				}
			}
			a := netip.AddrFrom16([16]byte(b))
			text = rapid.SampledFrom([]string{a.String(), a.StringExpanded(), strings.ToUpper(a.String())}).Draw(t, "spelling")
		case 1:
			text = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4"))).String()
		default:
			text = rapid.StringOfN(rapid.SampledFrom([]rune("0129afF:.:.:%g")), 0, 45, -1).Draw(t, "text")
		}
		want, err := netip.ParseAddr(text)
		var ev sshlog.Event
		sshlog.Parse([]byte("ROOT LOGIN REFUSED FROM "+text+" port 1"), &ev)
		var inPAM sshlog.Event
		if sshlog.Parse([]byte("authentication failure; logname= rhost="+text), &inPAM); !strings.Contains(text, " ") && inPAM.Addr != want.Unmap() {
			t.Fatalf("%q: got %v, want %v", text, inPAM.Addr, want)
		}
		if (err == nil) != ev.Addr.IsValid() || err == nil && ev.Addr != want.Unmap() {
			t.Fatalf("%q: got %v, want %v", text, ev.Addr, want)
		}
	})
}

func TestParseDoesNotAllocate(t *testing.T) {
	for _, info := range sshlog.Kinds() {
		for _, s := range info.Samples {
			if strings.Contains(s.Message, "%eth0") {
				continue // a zone is an interned string
			}
			msg := []byte(s.Message)
			if n := testing.AllocsPerRun(10, func() {
				var ev sshlog.Event
				sshlog.Parse(msg, &ev)
			}); n != 0 {
				t.Errorf("%q: %v allocations", s.Message, n)
			}
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, bb := range []struct{ name, msg string }{
		{"FailedPassword", "Failed password for invalid user admin from 203.0.113.9 port 40022 ssh2"},
		{"Accepted", "Accepted publickey for hanako from 203.0.113.9 port 40022 ssh2: ED25519 SHA256:uRqtCq2RyMnM9Vd0xwGwRBqh0VVTNmVLSOFS6mzWrEo"},
		{"InvalidUser", "Invalid user admin from 203.0.113.9 port 40022"},
		{"ClosedIPv6", "Connection closed by authenticating user root 2001:db8:1:2::9 port 40022 [preauth]"},
		{"PAM", "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.9  user=root"},
		{"Disconnect", "Received disconnect from 203.0.113.9 port 40022:11: Bye Bye [preauth]"},
		{"Unknown", "something new happened to nobody in particular, and was logged"},
	} {
		msg := []byte(bb.msg)
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			var ev sshlog.Event
			for b.Loop() {
				sshlog.Parse(msg, &ev)
			}
		})
	}
}
