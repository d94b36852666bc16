package guard

import (
	"fmt"

	"sekisho/internal/sshlog"
)

// Mode says which kinds of events count as attempts; the words mean what they
// mean in fail2ban's sshd filter.
type Mode string

// The modes.
const (
	Normal     Mode = "normal"     // failed logins, unknown and refused users
	DDoS       Mode = "ddos"       // Normal, and whatever comes and goes without logging in
	Extra      Mode = "extra"      // Normal, and clients that cannot or do not want to agree with the server
	Aggressive Mode = "aggressive" // DDoS and Extra
)

// ParseMode reads a mode's word.
func ParseMode(word string) (Mode, error) {
	switch m := Mode(word); m {
	case Normal, DDoS, Extra, Aggressive:
		return m, nil
	}
	return "", fmt.Errorf("mode %q is none of normal, ddos, extra, aggressive", word)
}

// countsEnd reports whether a mode counts an event that says no more than that a
// connection came to nothing before anybody logged in.
func (j *judge) countsEnd(ev *sshlog.Event) bool {
	switch ev.Kind {
	case sshlog.RefusedByWrappers:
		return true
	case sshlog.AuthFailDisconnect: // code 3 is a failed login, 14 says that the client gave up
		return ev.Code != 14 || j.extra || j.ddos
	case sshlog.NegotiationFailed:
		return j.extra
	case sshlog.Disconnected:
		return j.ddos || j.extra && ev.User != nil
	}
	return j.ddos
}
