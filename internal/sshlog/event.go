package sshlog

import "net/netip"

// Event is what one message says. User and Reason alias the message: copy them
// to keep them. All text is as logged, sshd's own escapes kept.
type Event struct {
	Kind    Kind
	Addr    netip.Addr   // the peer, as sshd put it there (v4-mapped unmapped); invalid where the message names none
	Port    uint16       // the peer's port, 0 where the message names none
	User    []byte       // nil where none is named
	Method  Method       // how it tried to authenticate
	Invalid bool         // the user does not exist or is not allowed ("invalid user")
	Preauth bool         // ended by [preauth]
	Repeat  int          // 1, or N of rsyslog's "message repeated N times: [ ... ]"
	Child   int32        // the connection's pid where another process (the listener, the monitor) speaks of it
	Code    uint32       // ReceivedDisconnect, AuthFailDisconnect: the reason code (RFC 4253 section 11.1); PAMMoreFailures: how many more
	Prefix  netip.Prefix // Penalty: what sshd punishes; Addr is set only where that is one address
	Reason  []byte       // what follows the peer: disconnect text, key, cause of a penalty, what did not match; often the peer's own words
}

// Word is the event's name where people and programs read it: the kind's, and
// for a failed login the method with it, as in "failed_password".
func (e *Event) Word() string {
	if e.Kind == Failed {
		return failedWords[e.Method]
	}
	return e.Kind.String()
}

// failedWords are constants so that Word does not allocate.
var failedWords = [...]string{
	MethodUnknown:             "failed",
	MethodNone:                "failed_none",
	MethodPassword:            "failed_password",
	MethodPublickey:           "failed_publickey",
	MethodKeyboardInteractive: "failed_keyboard_interactive",
	MethodHostbased:           "failed_hostbased",
	MethodGSSAPI:              "failed_gssapi",
}
