package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"sekisho/internal/config"
	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
	"sekisho/internal/gate/web"
	"sekisho/internal/oidc"
	"sekisho/internal/securitygroup"
)

// gateway is a gate that keeps no state: its people and doors are the configuration's, what
// is open stands in the tags of the rules, the audit is the log. Any number of functions may
// be one gate at the same time.
type gateway struct {
	handler http.Handler
	log     *slog.Logger
}

// newGateway is the gate of a configuration; nil where it has none. It speaks to nobody.
func newGateway(cfg *config.Config, log *slog.Logger) (*gateway, error) {
	serve := cfg.Gate.Serve
	if serve == nil {
		return nil, nil
	}
	if serve.Database != "" || serve.DatabaseFile != "" {
		return nil, errors.New("gate.serve names a database, and a function keeps no state: leave it out of this copy of the configuration")
	}
	var provider web.Provider
	if o := serve.OIDC; o != nil {
		p, err := oidc.New(oidc.Config{
			Issuer: o.Issuer, ClientID: o.ClientID, PersonClaim: string(o.PersonClaim), GroupsClaim: o.GroupsClaim,
			RedirectURL: cfg.Gate.URL + web.Callback, // though nobody is sent to the provider from here
		})
		if err != nil {
			return nil, err
		}
		provider = p
		if len(o.Groups) > 0 {
			log.Warn("groups of the identity provider are not heeded by a gate that keeps no state", "hint", "write people's groups into the configuration")
		}
	}
	if provider == nil && !haveKeys(cfg) {
		log.Warn("nobody can show who they are", "hint", "give people keys (people.NAME.keys), or name a provider (gate.serve.oidc)")
	}
	get := func() *config.Config { return cfg }
	settings := web.SettingsOf(cfg)
	g := gate.New(gate.Options{
		Config: get, Logger: log,
		Cloud: securitygroup.Open(securitygroup.Options{Accounts: cfg.AWS.Accounts, Endpoint: cfg.AWS.Endpoint, Person: "sekisho-gate", Logger: log}),
	})
	return &gateway{log: log, handler: web.New(web.Options{
		Gate: g, Settings: func() web.Settings { return settings }, Provider: provider, Logger: log,
	})}, nil
}

func haveKeys(cfg *config.Config) bool {
	for _, p := range cfg.People {
		if len(p.Keys) > 0 {
			return true
		}
	}
	return false
}

var errNoGate = api.Errorf(api.NotFound, "name it in this copy of the configuration: gate.url and gate.serve", "this function is not a gate")

// answer answers a request.
func (g *gateway) answer(ctx context.Context, e *event) ([]byte, error) {
	w := &response{header: http.Header{}}
	r, err := e.request(ctx)
	switch {
	case g == nil:
		w.fail(errNoGate)
	case err != nil:
		g.log.Warn("request refused", "from", e.from(), "error", err)
		w.fail(api.Errorf(api.BadRequest, "", "this is not a request that can be read"))
	default:
		g.handler.ServeHTTP(w, r)
	}
	return w.encode(e)
}
