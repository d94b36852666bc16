package rdap

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// Servers are those to ask. The zero value is the real ones.
type Servers struct {
	// RDAP is the base URL, https, of the server that is asked first; "": ARIN's, which sends us on to the
	// registry that has the address. It may send us to registries' hosts only, at the same port.
	RDAP string
	// WHOIS is the host:port that is asked first; "": IANA's. Those that it refers to are asked at the same port.
	WHOIS string
	DNS   *net.Resolver  // nil: the system's
	Roots *x509.CertPool // nil: the system's
	// ForTests lets servers have any address, such as on loopback, and asks for addresses that are for
	// documentation.
	ForTests bool
}

func (s Servers) resolver() *net.Resolver {
	if s.DNS == nil {
		return net.DefaultResolver
	}
	return s.DNS
}

// dialer connects to public addresses only, whatever a name resolves to: a referral leads into no
// inner network.
func (s Servers) dialer() *net.Dialer {
	d := &net.Dialer{Resolver: s.resolver()}
	if !s.ForTests {
		d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("connect to %q: %w", address, err)
			}
			if !isPublic(plain(to.Addr())) {
				return fmt.Errorf("%s is no public address: it is not asked", to.Addr())
			}
			return nil
		}
	}
	return d
}
