package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// ErrAbsent is the error of bans where the table, or a set of it, is not there:
// Ensure was not called yet, or someone took it away.
var ErrAbsent = errors.New("table inet " + tableName + " is not there as it was written")

// checkForm refuses what is not a prefix as the kernel's sets hold it.
func checkForm(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errors.New("not a prefix")
	case p.Addr().Is4In6():
		return errors.New("an IPv4 address written as IPv6")
	case p != p.Masked():
		return fmt.Errorf("the prefix is %v", p.Masked())
	}
	return nil
}

// check refuses a prefix that must never be dropped, whoever asks for it.
func check(p netip.Prefix) error {
	if err := checkForm(p); err != nil {
		return fmt.Errorf("ban %v: %w", p, err)
	}
	switch {
	case p.Bits() == 0:
		return fmt.Errorf("ban %v: that is everyone", p)
	case p.Overlaps(netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)), p.Contains(netip.IPv6Loopback()):
		return fmt.Errorf("ban %v: it holds this machine's loopback", p)
	}
	return nil
}

// checkBans refuses the whole batch for one wrong ban.
func checkBans(bans []Ban) error {
	for _, b := range bans {
		if err := check(b.Prefix); err != nil {
			return err
		}
	}
	return nil
}

// home is the set that holds p.
func home(p netip.Prefix) setID {
	switch {
	case p.Addr().Is4() && p.Bits() == 32:
		return ban4
	case p.Addr().Is4():
		return net4
	case p.Bits() == 128:
		return ban6
	case p.Bits() == 64:
		return ban6n
	}
	return net6
}

// endOf is when a ban made now ends; zero: never.
func endOf(b Ban, now time.Time) time.Time {
	if b.Left == 0 {
		return time.Time{}
	}
	return now.Add(b.Left)
}
