package web

import (
	"net/url"
	"slices"
	"strings"

	"sekisho/internal/config"
	"sekisho/internal/passkey"
)

// Settings are what the configuration says of a gate's HTTP.
type Settings struct {
	URL      string // what browsers call the gate: an origin, https://gate.example.com
	IPv4     string // an origin that has IPv4 addresses only; "": none
	IPv6     string // one that has IPv6 addresses only; "": none
	Provider string // what the button of the identity provider says; "": there is none
	Edit     bool   // people and targets may be edited in the pages
	Trust    Trust
}

// SettingsOf are those of a configuration. It has gate.serve.
func SettingsOf(c *config.Config) Settings {
	serve := c.Gate.Serve
	s := Settings{
		URL: c.Gate.URL, IPv4: serve.Addresses.IPv4, IPv6: serve.Addresses.IPv6, Edit: serve.Edit,
		Trust: Trust{Proxies: serve.Proxies},
	}
	switch serve.Forwarded {
	case config.ForwardedX:
		s.Trust.Header = XForwardedFor
	case config.Forwarded:
		s.Trust.Header = Forwarded
	}
	if serve.OIDC != nil {
		s.Provider = serve.OIDC.Name
		if u, err := url.Parse(serve.OIDC.Issuer); s.Provider == "" && err == nil {
			s.Provider = u.Host
		}
	}
	return s
}

func (s Settings) equal(o Settings) bool {
	return s.URL == o.URL && s.IPv4 == o.IPv4 && s.IPv6 == o.IPv6 && s.Provider == o.Provider && s.Edit == o.Edit &&
		s.Trust.Header == o.Trust.Header && slices.Equal(s.Trust.Proxies, o.Trust.Proxies)
}

// site is what is asked of settings with each request.
type site struct {
	Settings
	host   string   // of URL, as a Host header has it
	probes []string // hosts of IPv4 and IPv6
	secure bool
	// passkeys is nil where browsers make none for such a URL: one with an address for its host.
	passkeys *passkey.Relying
	policy   string // Content-Security-Policy
}

func newSite(s Settings) (*site, error) {
	base, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	out := &site{Settings: s, host: hostOf(base), secure: base.Scheme == "https"}
	if out.passkeys, err = passkey.New(s.URL, "Sekisho"); err != nil {
		out.passkeys = nil
	}
	connect := []string{"connect-src 'self'"}
	for _, probe := range []string{s.IPv4, s.IPv6} {
		if probe == "" {
			continue
		}
		u, err := url.Parse(probe)
		if err != nil {
			return nil, err
		}
		out.probes = append(out.probes, hostOf(u))
		connect = append(connect, u.Scheme+"://"+hostOf(u))
	}
	out.policy = strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src 'self' data:",
		strings.Join(connect, " "),
		"form-action 'self'",
		"frame-ancestors 'none'",
		"base-uri 'none'",
	}, "; ")
	return out, nil
}

// hostOf is a URL's host as clients write it: without the port that its scheme has anyway.
func hostOf(u *url.URL) string {
	return canonicalHost(u.Host, u.Scheme == "https")
}

func canonicalHost(host string, secure bool) string {
	port := ":80"
	if secure {
		port = ":443"
	}
	return strings.TrimSuffix(strings.ToLower(host), port)
}
