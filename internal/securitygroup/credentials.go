package securitygroup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"sekisho/internal/config"
)

// base is what a profile of ~/.aws/config says, or the environment. Accounts that are
// entered through the same one share its credentials.
type base struct {
	config aws.Config
	http   aws.HTTPClient
	login  string // the command that gets new credentials; "": there is none
}

// account is how an account is entered, in all regions.
type account struct {
	config      config.Account
	base        *base
	credentials aws.CredentialsProvider
	kept        aws.CredentialsProvider // of the role; nil: there is none
	right       atomic.Bool             // they have shown something of the account that is configured
}

// refreshEarly is how long before their end the credentials of a role are replaced.
const refreshEarly = time.Minute

// account is called with c.mu held. It reads files, and no network.
func (c *Cloud) account(ctx context.Context, p Place) (*account, error) {
	if a := c.accounts[p.Account]; a != nil {
		return a, nil
	}
	conf, ok := c.options.Accounts[p.Account]
	a := &account{config: conf}
	if !ok && p.Account != "" {
		return a, errNoAccount
	}
	b := c.bases[conf.Profile]
	if b == nil {
		var err error
		if b, err = c.load(ctx, conf.Profile, p.Region); err != nil {
			return a, &credentialsError{err}
		}
		c.bases[conf.Profile] = b
	}
	a.base = b
	inner := b.config.Credentials
	if conf.Role != "" {
		cfg := b.config.Copy()
		cfg.Credentials = wrapped{inner}
		a.kept = c.keep(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg, c.stsOptions), conf.Role, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = sessionName(c.options.Person)
			if conf.ExternalID != "" {
				o.ExternalID = aws.String(conf.ExternalID)
			}
		}), conf.Role, conf.ExternalID, sessionName(c.options.Person), cmp.Or(conf.Profile, os.Getenv("AWS_PROFILE")), os.Getenv("AWS_ACCESS_KEY_ID"), cmp.Or(c.options.Endpoint, os.Getenv("AWS_ENDPOINT_URL")))
		inner = aws.NewCredentialsCache(a.kept, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = refreshEarly })
	}
	a.credentials = wrapped{inner}
	c.accounts[p.Account] = a
	return a, nil
}

var errNoAccount = errors.New("the configuration has no account of this name")

// load reads a profile; "": what the environment says.
func (c *Cloud) load(ctx context.Context, profile, region string) (*base, error) {
	metadata := &metadata{}
	options := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithRegion(region),
		awsconfig.WithHTTPClient(c.http),
		awsconfig.WithLogger(logging.LoggerFunc(c.logf)),
		awsconfig.WithDefaultsMode(aws.DefaultsModeLegacy), // "auto" would ask the metadata service
		awsconfig.WithEC2RoleCredentialOptions(func(o *ec2rolecreds.Options) { o.Client = metadata }),
		awsconfig.WithAssumeRoleCredentialOptions(func(o *stscreds.AssumeRoleOptions) {
			if o.RoleSessionName == "" {
				o.RoleSessionName = sessionName(c.options.Person)
			}
			if made, ok := o.Client.(*sts.Client); ok {
				o.Client = sts.New(made.Options(), c.stsOptions)
			}
		}),
	}
	if profile != "" {
		options = append(options, awsconfig.WithSharedConfigProfile(profile))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, err
	}
	b := &base{config: cfg, http: c.shared}
	if with, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok && with != c.http {
		b.http = whole{with.Freeze()} // AWS_CA_BUNDLE
	}
	b.config.HTTPClient = b.http
	for _, source := range cfg.ConfigSources {
		if shared, ok := source.(awsconfig.SharedConfig); ok {
			b.login = login(shared, profile)
		}
	}
	metadata.client = imds.NewFromConfig(cfg, func(o *imds.Options) {
		o.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.Proxy = nil })
	})
	return b, nil
}

// stsOptions make a client of STS one of ours.
func (c *Cloud) stsOptions(o *sts.Options) {
	if c.options.Endpoint != "" {
		o.BaseEndpoint = aws.String(c.options.Endpoint)
	}
	o.APIOptions = append(o.APIOptions, c.slots.middleware(nil))
	if o.HTTPClient == aws.HTTPClient(c.http) {
		o.HTTPClient = c.shared
	}
}

// login is the command by which somebody gets new credentials for a profile.
func login(shared awsconfig.SharedConfig, profile string) string {
	for s := &shared; s != nil; s = s.Source {
		command := ""
		switch {
		case s.SSOSessionName != "" || s.SSOStartURL != "":
			command = "aws sso login"
		case s.LoginSession != "":
			command = "aws login"
		default:
			continue
		}
		if s.Profile != "" && s.Profile != "default" {
			return command + " --profile " + s.Profile
		}
		if profile != "" {
			return command + " --profile " + profile
		}
		return command
	}
	return ""
}

// metadata is the instance metadata service, where a machine in EC2 has its credentials. A
// machine that is elsewhere must not wait for it: until it has answered once it is given
// metadataFirst, and then as long as the SDK gives it.
type metadata struct {
	client   *imds.Client
	answered atomic.Bool
}

const metadataFirst = 800 * time.Millisecond

func (m *metadata) GetMetadata(ctx context.Context, in *imds.GetMetadataInput, options ...func(*imds.Options)) (*imds.GetMetadataOutput, error) {
	if m.answered.Load() {
		return m.client.GetMetadata(ctx, in, options...)
	}
	ctx, cancel := context.WithTimeout(ctx, metadataFirst)
	out, err := m.client.GetMetadata(ctx, in, options...)
	if err != nil {
		cancel()
		return nil, err
	}
	m.answered.Store(true)
	out.Content = closing{out.Content, cancel}
	return out, nil
}

// wrapped marks the failures of credentials as such, so that a call that has none is not
// tried again: who could be asked again was, for the credentials.
type wrapped struct{ aws.CredentialsProvider }

func (w wrapped) Retrieve(ctx context.Context) (aws.Credentials, error) {
	got, err := w.CredentialsProvider.Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		err = &credentialsError{err}
	}
	return got, err
}

type credentialsError struct{ cause error }

func (e *credentialsError) Error() string        { return fmt.Sprintf("credentials: %v", e.cause) }
func (e *credentialsError) Unwrap() error        { return e.cause }
func (e *credentialsError) RetryableError() bool { return false }

// forget drops what is known of an account's credentials, so that the next call reads them
// anew: somebody may have logged in again.
func (c *Cloud) forget(a *account) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, is := range c.accounts {
		if is.base == a.base {
			delete(c.accounts, name)
			if k, ok := is.kept.(kept); ok {
				_ = k.drop() // what cannot be removed ends by itself
			}
		}
	}
	for profile, is := range c.bases {
		if is == a.base {
			delete(c.bases, profile)
		}
	}
}

// sessionName is a person's name as STS takes it: 2 to 64 of letters, digits and _+=,.@-.
func sessionName(person string) string {
	if person == "" {
		return "sekisho"
	}
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("_+=,.@-", r)) {
			return r
		}
		return '-'
	}, person)
	if len(name) < 2 {
		name += "-"
	}
	return name[:min(len(name), 64)]
}

// closing is a body whose context ends when it is closed.
type closing struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (c closing) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}
