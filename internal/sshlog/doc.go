// Package sshlog reads what OpenSSH's server writes to the log: one line to one
// Line (envelope: time, host, program, pid), one message to one Event (kind,
// peer, user). It is the hot path: pure, without I/O and without allocation.
//
// Every byte of a message may be an attacker's. The peer is taken only from the
// place where sshd's format string puts it, never searched for.
package sshlog
