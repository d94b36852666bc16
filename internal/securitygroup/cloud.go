package securitygroup

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"sekisho/internal/config"
)

// Options say how AWS is reached.
type Options struct {
	Accounts map[string]config.Account // by name; "" is the environment's own without being named here
	Endpoint string                    // takes the place of AWS's own for EC2 and STS; "": what AWS_ENDPOINT_URL says, else AWS's own
	Person   string                    // whom CloudTrail is to name: the session's name where a role is assumed; "": sekisho
	InFlight int                       // calls at a time, in all places together; 0: 8
	Cache    string                    // a folder, which is there, for the credentials of roles, kept until they end; "": they are not
	Logger   *slog.Logger              // tells each call, at debug; nil: nobody

	attempt time.Duration // that one attempt may take; 0: attemptTime
}

const (
	inFlight    = 8
	attemptTime = 10 * time.Second
)

// Cloud is EC2 in any number of accounts and regions. It is safe for concurrent use.
//
// Each call is attempted up to eight times for as long as its context lets it: where the
// network or EC2 fails, or EC2 says that there were too many calls, in which case later
// calls of that action at that place are slowed down too. What is denied or refused is not
// tried again.
//
// A call whose answer was lost is tried again as well, and then meets what it did the
// first time: Authorize fails with IsDuplicate though its rule is there with its tags,
// Revoke with IsNotFound though it did revoke, ModifyList with IsVersionMismatch. Read
// what is there, and go on from that.
//
// What was written may be missing from what is read in the seconds after. What Authorize
// and ModifyList return can be trusted.
type Cloud struct {
	options Options
	http    *awshttp.BuildableClient
	shared  aws.HTTPClient // http, with its one transport
	slots   slots

	mu       sync.Mutex
	bases    map[string]*base    // by profile
	accounts map[string]*account // by name
	places   map[Place]*place
}

// place is what is kept of a place. It outlives the clients, which go when their
// credentials have expired.
type place struct {
	clock clock
	paces sync.Map // of *pace, by action

	account *account // that the clients are of
	ec2     *ec2.Client
	sts     *sts.Client
}

// Open returns a Cloud. It does no I/O: accounts and places are looked at when they are
// first used.
func Open(o Options) *Cloud {
	if o.InFlight <= 0 {
		o.InFlight = inFlight
	}
	if o.attempt <= 0 {
		o.attempt = attemptTime
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Cloud{
		options:  o,
		http:     httpClient(o),
		slots:    make(slots, o.InFlight),
		bases:    map[string]*base{},
		accounts: map[string]*account{},
		places:   map[Place]*place{},
	}
	c.shared = whole{c.http.Freeze()}
	return c
}

// Now is the time by EC2's clock: what the last answer from the place said, and the
// monotonic time since. It is never ahead of that clock, and behind it by less than a
// second and the time that the answer took, since an answer names no parts of a second.
// The time that a machine was suspended is missing from it until the next answer. heard is
// false before the first answer: t is this machine's clock then.
func (c *Cloud) Now(p Place) (t time.Time, heard bool) { return c.place(p).clock.now() }

func (c *Cloud) place(p Place) *place {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.places[p]
	if s == nil {
		s = &place{}
		c.places[p] = s
	}
	return s
}

// pace is an action's at the place.
func (s *place) pace(action string, inFlight int) *pace {
	p, ok := s.paces.Load(action)
	if !ok {
		p, _ = s.paces.LoadOrStore(action, newPace(inFlight))
	}
	return p.(*pace)
}

// clients returns the clients for a place, and makes them where there are none.
func (c *Cloud) clients(ctx context.Context, p Place) (*ec2.Client, *sts.Client, *account, error) {
	s := c.place(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	a, err := c.account(ctx, p)
	if err != nil {
		return nil, nil, a, err
	}
	if s.account != a {
		cfg := a.base.config.Copy()
		cfg.Region, cfg.Credentials = p.Region, a.credentials
		s.account = a
		s.ec2 = ec2.NewFromConfig(cfg, func(o *ec2.Options) {
			o.HTTPClient = a.base.http
			o.Retryer = retryer()
			if c.options.Endpoint != "" {
				o.BaseEndpoint = aws.String(c.options.Endpoint)
			}
			o.APIOptions = append(o.APIOptions, c.slots.middleware(s), c.call(p))
		})
		s.sts = sts.NewFromConfig(cfg, c.stsOptions)
	}
	return s.ec2, s.sts, a, nil
}

// call is one action at a place. object is what it is done to, for the error.
func call[I, O any](ctx context.Context, c *Cloud, p Place, object string, do func(*ec2.Client, context.Context, *I, ...func(*ec2.Options)) (*O, error), in *I) (*O, error) {
	client, _, a, err := c.clients(ctx, p)
	if err == nil {
		var out *O
		if out, err = do(client, ctx, in); err == nil {
			return out, nil
		}
	}
	return nil, c.failed(p, a, action[I](), object, err)
}

// Identity is whom AWS takes us for.
type Identity struct {
	Account string // twelve digits
	ARN     string
}

// Identity asks AWS whom the place's credentials are for. It needs no permission.
func (c *Cloud) Identity(ctx context.Context, p Place) (Identity, error) {
	_, client, a, err := c.clients(ctx, p)
	if err == nil {
		var out *sts.GetCallerIdentityOutput
		if out, err = client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}); err == nil {
			i := Identity{Account: aws.ToString(out.Account), ARN: aws.ToString(out.Arn)}
			return i, c.owned(p, "GetCallerIdentity", "", i.Account)
		}
	}
	return Identity{}, c.failed(p, a, "GetCallerIdentity", "", err)
}

// owned fails where the account's number is given, and what the credentials show first is
// all of others. Later answers may hold no more than what others share with the account.
func (c *Cloud) owned(p Place, action, object string, owners ...string) error {
	want := c.options.Accounts[p.Account].ID
	if want == "" || len(owners) == 0 {
		return nil
	}
	c.mu.Lock()
	a := c.accounts[p.Account]
	c.mu.Unlock()
	if a != nil && a.right.Load() {
		return nil
	}
	if slices.Contains(owners, want) {
		if a != nil {
			a.right.Store(true)
		}
		return nil
	}
	name := "account " + p.Account
	if p.Account == "" {
		name = "the environment's account"
	}
	return &Error{
		Place: p, Action: action, Group: object, kind: kindWrongAccount, account: c.options.Accounts[p.Account],
		Message: fmt.Sprintf("%s is %s, but the credentials are for %s", name, want, owners[0]),
	}
}
