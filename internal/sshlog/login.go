package sshlog

import (
	"net/netip"
	"time"
)

// Login is a successful login, for the memory of who is known.
type Login struct {
	Addr netip.Addr
	Port uint16
	User string
	Time time.Time
}
