package fail2ban

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What fail2ban makes of these is in TestSame.
func TestParseSeconds(t *testing.T) {
	for _, tt := range []struct {
		text string
		want float64 // -0.5: it is no time
	}{
		{"600", 600},
		{"10m", 600},
		{"1h", 3600},
		{"1d 12h", 129600},
		{"1d12h", 129600},
		{"1 hour + 30 min", 5400},
		{"2weeks", 1209600},
		{"1mo", 2629800},
		{"1y", 31557600},
		{"1year-6mo", 15778800},
		{"24*60*60", 86400},
		{"-1", -1},
		{"-1d", -86400},
		{"(1h+1)*2", 7202},
		{"7/2", 3.5},
		{"7//2", 3},
		{"3600 # an hour", 3600},
		{"0.5h", 1800},
		{"1H", 3600},
		{"", -0.5},
		{"forever", -0.5},
		{"1 fortnight", -0.5},
		{"1h, 2h", -0.5},
		{"1/0", -0.5},
		{"2**99999", -0.5},
		{"1.2.3", -0.5},
		{"()", -0.5},
		{"9" + string(make([]byte, 3)), -0.5},
	} {
		got, err := parseSeconds(tt.text)
		if err != nil {
			got = -0.5
		}
		if got != tt.want {
			t.Errorf("%q: got %v, want %v (%v)", tt.text, got, tt.want, err)
		}
	}
	if got := asDuration(1e300); got != 1<<63-1 {
		t.Errorf("a very long time is %v", got)
	}
	if got := asDuration(1.9); got != time.Second {
		t.Errorf("1.9 s is %v", got)
	}
}

func FuzzParseSeconds(f *testing.F) {
	for _, s := range []string{"1d12h", "((1)", "--1", "1h*2//3/0", "1 2 3", "1e9", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := parseSeconds(s); err == nil && asDuration(max(v, 0)) < 0 {
			t.Errorf("%q: %v", s, v)
		}
	})
}

func TestCalls(t *testing.T) {
	type calls = []call
	for _, tt := range []struct {
		name, text string
		want       calls
		wrong      bool
	}{
		{"none", " \n ", nil, false},
		{"a name", "sshd", calls{{"sshd", map[string]string{}}}, false},
		{"a parameter", "sshd[mode=aggressive]", calls{{"sshd", map[string]string{"mode": "aggressive"}}}, false},
		{"several", `a[b=c, d="e, f]", g='h'][i=j]` + "\n  k", calls{{"a", map[string]string{"b": "c", "d": "e, f]", "g": "h", "i": "j"}}, {"k", map[string]string{}}}, false},
		{"spaces", `a [ b = c ]`, nil, true},
		{"lines in quotes", "a[p=\"/x\n/y\"] b", calls{{"a", map[string]string{"p": "/x\n/y"}}, {"b", map[string]string{}}}, false},
		{"nothing in them", "a[]", calls{{"a", map[string]string{}}}, false},
		{"no end", "a[b=c", nil, true},
		{"no value", "a[b]", nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got calls
			var wrong bool
			for _, s := range splitCalls(tt.text) {
				c, err := parseCall(s)
				wrong = wrong || err != nil
				got = append(got, c)
			}
			if wrong != tt.wrong || !wrong && cmp.Diff(tt.want, got, cmp.AllowUnexported(call{})) != "" {
				t.Errorf("wrong %v, %s", wrong, cmp.Diff(tt.want, got, cmp.AllowUnexported(call{})))
			}
		})
	}
}

func TestParsePorts(t *testing.T) {
	for _, tt := range []struct {
		text  string
		ports []uint16
		all   bool
		ok    bool
	}{
		{"ssh", []uint16{22}, false, true},
		{"ssh,2222", []uint16{22, 2222}, false, true},
		{"22 2222:2224", []uint16{22, 2222, 2223, 2224}, false, true},
		{"0:65535", nil, true, true},
		{"1-65535", nil, true, true},
		{"1:1000", nil, false, false},
		{"sftp", nil, false, false},
		{"", nil, false, false},
		{"70000", nil, false, false},
		{"0", nil, false, false},
	} {
		ports, all, ok := parsePorts(tt.text)
		if cmp.Diff(tt.ports, ports) != "" || all != tt.all || ok != tt.ok {
			t.Errorf("%q: got %v, %v, %v", tt.text, ports, all, ok)
		}
	}
}

func TestIgnoredPrefix(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"203.0.113.7", "203.0.113.7/32"},
		{"127.0.0.1/8", "127.0.0.0/8"},
		{"10.1.2.3/255.255.0.0", "10.1.0.0/16"},
		{"10.1.2.3/255.0.255.0", ""},
		{"2001:db8::1/48", "2001:db8::/48"},
		{"::ffff:203.0.113.7", "203.0.113.7/32"},
		{"::ffff:203.0.113.7/120", "203.0.113.0/24"},
		{"::ffff:203.0.113.7/8", ""},
		{"fe80::1%eth0", ""},
		{"office.example.com", ""},
		{"203.0.113.7/33", ""},
		{"203.0.113.7/-1", ""},
		{"file:/etc/ignored", ""},
	} {
		p, ok := ignoredPrefix(tt.text)
		got := ""
		if ok {
			got = p.String()
		}
		if got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
}
