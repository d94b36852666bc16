package rdap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"

	"sekisho/internal/notify"
)

// maxReferrals is how often a WHOIS server's word where to ask is followed.
const maxReferrals = 3

// whoisAsker asks over WHOIS, whose answers nothing protects on their way.
type whoisAsker struct {
	first, port string
	dialer      *net.Dialer
}

func newWHOISAsker(s Servers) (*whoisAsker, error) {
	host, port, err := net.SplitHostPort(s.WHOIS)
	if err != nil || host == "" {
		return nil, fmt.Errorf("the WHOIS server %q is no host:port", s.WHOIS)
	}
	return &whoisAsker{host, port, s.dialer()}, nil
}

// ask asks the first server and those that it leads to. The last that knows the network is believed,
// but of no more than the one before it spoke of: a holder's own server may lie about its neighbours.
func (w *whoisAsker) ask(ctx context.Context, a netip.Addr) (notify.Owner, error) {
	var best notify.Owner
	host := w.first
	asked := []string{host}
	for {
		text, err := w.query(ctx, host, a)
		if err != nil {
			if best.Prefix.IsValid() {
				return best, nil // what the one before it knew
			}
			return notify.Owner{}, fmt.Errorf("%s: %w", host, err)
		}
		said := parseWHOIS(text, a)
		if p := said.owner.Prefix; p.IsValid() && (!best.Prefix.IsValid() || p.Bits() >= best.Prefix.Bits()) {
			if said.owner.Country == "" {
				said.owner.Country = best.Country
			}
			best = said.owner
			best.Source = host
		}
		if said.refer == "" || slices.Contains(asked, said.refer) || len(asked) > maxReferrals {
			break
		}
		host = said.refer
		asked = append(asked, host)
	}
	if !best.Prefix.IsValid() {
		return notify.Owner{}, fmt.Errorf("%s: %w", host, ErrUnknown)
	}
	return best, nil
}

// query asks one server. An answer that is longer than it may be is no answer.
func (w *whoisAsker) query(ctx context.Context, host string, a netip.Addr) ([]byte, error) {
	conn, err := w.dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, w.port))
	if err != nil {
		return nil, reason(ctx, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := io.WriteString(conn, question(host, a)); err != nil {
		return nil, reason(ctx, err)
	}
	text, err := io.ReadAll(io.LimitReader(conn, maxAnswer+1))
	switch {
	case len(text) > maxAnswer:
		return nil, fmt.Errorf("it answers with more than %d bytes", maxAnswer)
	case err != nil:
		return nil, reason(ctx, err)
	case len(text) == 0:
		return nil, errors.New("it answers nothing")
	}
	return text, nil
}

// question is what a server wants to be asked.
func question(host string, a netip.Addr) string {
	switch host {
	case "whois.arin.net":
		return "n + " + a.String() + "\r\n" // networks, in full
	case "whois.nic.ad.jp":
		return a.String() + "/e\r\n" // in English
	}
	return a.String() + "\r\n"
}
