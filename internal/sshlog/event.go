package sshlog

import "net/netip"

// Event is what one message says. User aliases the message: copy it to keep it.
type Event struct {
	Kind    Kind
	Addr    netip.Addr // the peer, as sshd put it there; invalid where the message names none
	Port    uint16     // the peer's port, 0 where the message names none
	User    []byte     // as logged (sshd's own escapes kept); nil where none is named
	Method  Method     // how it tried to authenticate
	Invalid bool       // the user does not exist or is not allowed ("invalid user")
	Preauth bool       // ended by [preauth]
	Repeat  int        // 1, or N of rsyslog's "message repeated N times: [ ... ]"
	Child   int32      // the connection's pid where another process (the listener) speaks of it
}
