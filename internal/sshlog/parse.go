package sshlog

// Parse reads one message into ev and reports whether it says anything of a
// peer or a connection. Everything in ev is overwritten.
func Parse(msg []byte, ev *Event) bool {
	*ev = Event{Repeat: 1}
	return false
}
