package web

import (
	"context"
	"iter"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
)

// Gate is what this package asks of a gate: *gate.Gate does it.
type Gate interface {
	doors
	keeping
	identities
	hosts
	Ready(ctx context.Context) error
	Stateless() bool
}

type doors interface {
	Me(ctx context.Context, who gate.Who) (api.Me, error)
	Doors(ctx context.Context, who gate.Who) ([]api.Door, error)
	Door(ctx context.Context, who gate.Who, target string) (api.Door, error)
	Open(ctx context.Context, who gate.Who, target string, q api.OpenRequest) (api.Grant, error)
	Extend(ctx context.Context, who gate.Who, id string, q api.ExtendRequest) (api.Grant, error)
	Close(ctx context.Context, who gate.Who, id string) (api.Grant, error)
	Approve(ctx context.Context, who gate.Who, id string, q api.AnswerRequest) (api.Grant, error)
	Deny(ctx context.Context, who gate.Who, id string, q api.AnswerRequest) (api.Grant, error)
	Grants(ctx context.Context, who gate.Who, all bool) ([]api.Grant, error)
	Grant(ctx context.Context, who gate.Who, id string) (api.Grant, error)
	Waiting(ctx context.Context, who gate.Who) ([]api.Grant, error)
}

type keeping interface {
	People(ctx context.Context, who gate.Who) ([]api.Person, error)
	Person(ctx context.Context, who gate.Who, name string) (api.Person, error)
	DoorOf(ctx context.Context, who gate.Who, person, target string) (api.Door, error)
	AddPerson(ctx context.Context, who gate.Who, e api.PersonEdit) (api.Person, error)
	EditPerson(ctx context.Context, who gate.Who, name string, e api.PersonEdit) (api.Person, error)
	DeletePerson(ctx context.Context, who gate.Who, name string) error
	Invite(ctx context.Context, who gate.Who, name string) (api.Invitation, error)
	Disable(ctx context.Context, who gate.Who, name string, q api.DisableRequest) ([]api.Grant, error)
	Enable(ctx context.Context, who gate.Who, name string) (api.Person, error)
	Targets(ctx context.Context, who gate.Who) ([]api.Target, error)
	EditTarget(ctx context.Context, who gate.Who, name string, e api.TargetEdit) (api.Target, error)
	DeleteTarget(ctx context.Context, who gate.Who, name string) error
	Hosts(ctx context.Context, who gate.Who) ([]api.Host, error)
	AddHost(ctx context.Context, who gate.Who, name string) (api.Invitation, error)
	DeleteHost(ctx context.Context, who gate.Who, name string) error
	Findings(ctx context.Context, who gate.Who) ([]string, error)
	Audit(ctx context.Context, who gate.Who, f gate.Filter) ([]api.Entry, error)
	AuditAll(ctx context.Context, who gate.Who, yield func(api.Entry) error) error
	Verify(ctx context.Context, who gate.Who) (api.Verdict, error)
}

type identities interface {
	PersonOfKey(ctx context.Context, key ssh.PublicKey, from netip.Addr) (string, error)
	PersonOfLogin(ctx context.Context, l gate.Login, from netip.Addr) (string, error)
	RoleOf(person string) api.Role
	UseNonce(ctx context.Context, key [32]byte, until time.Time) (bool, error)
	NewSession(ctx context.Context, person string, via api.Via, from netip.Addr, agent string) (string, gate.Session, error)
	SessionOf(ctx context.Context, token string, from netip.Addr) (gate.Session, error)
	EndSession(ctx context.Context, who gate.Who, token string) error
	EndSessions(ctx context.Context, who gate.Who) error
	Handle(ctx context.Context, person string) ([]byte, error)
	PersonByHandle(ctx context.Context, handle []byte) (string, error)
	Passkeys(ctx context.Context, person string) ([]gate.Passkey, error)
	Passkey(ctx context.Context, id []byte) (gate.Passkey, error)
	AddPasskey(ctx context.Context, who gate.Who, p gate.Passkey, invitation string) error
	UsedPasskey(ctx context.Context, p gate.Passkey) error
	DeletePasskey(ctx context.Context, who gate.Who, person string, id []byte) error
	Begin(ctx context.Context, c gate.Ceremony) error
	Finish(ctx context.Context, kind, key string) (gate.Ceremony, error)
	Invited(ctx context.Context, token string) (string, time.Time, error)
	Claim(ctx context.Context, token, name string, from netip.Addr) error
}

type hosts interface {
	Enrol(ctx context.Context, key ssh.PublicKey, q api.EnrolRequest, from netip.Addr) (api.Host, error)
	HostOfKey(ctx context.Context, key ssh.PublicKey, from netip.Addr) (string, error)
	HostOfTicket(ctx context.Context, ticket string) (string, error)
	Stream(ctx context.Context, who gate.Who) (iter.Seq[api.Change], error)
	Report(ctx context.Context, who gate.Who, r api.Report) error
}

var _ Gate = (*gate.Gate)(nil)
