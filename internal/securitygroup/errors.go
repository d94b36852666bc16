package securitygroup

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/smithy-go"

	"sekisho/internal/config"
	"sekisho/internal/printable"
)

// Error is what went wrong with one call. Every error of a Cloud's methods is or wraps one,
// but for those that a callback of the caller's returned.
type Error struct {
	Place   Place
	Action  string // the API's: AuthorizeSecurityGroupIngress, AssumeRole
	Code    string // the API's, or the state of a list that says that something failed; "": neither
	Message string // printable
	Group   string // what the call was about: sg-..., pl-..., or sgr-...; "": nothing in particular

	kind    kind // of an error without a code
	account config.Account
	login   string
	skew    time.Duration // of AWS's clock to ours, where it was heard
	cause   error
}

type kind uint8

const (
	kindOther kind = iota
	kindNoCredentials
	kindExpired
	kindUnreachable
	kindWrongAccount
	kindNoAccount
)

// Error is such as "ap-northeast-1 (prod): AuthorizeSecurityGroupIngress sg-...: UnauthorizedOperation: ...".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Place.Region)
	if e.Place.Account != "" {
		fmt.Fprintf(&b, " (%s)", e.Place.Account)
	}
	b.WriteString(": " + e.Action)
	for _, part := range []string{" " + e.Group, ": " + e.Code, ": " + e.Message} {
		if strings.TrimLeft(part, ": ") != "" {
			b.WriteString(part)
		}
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.cause }

// failed makes an Error of what the SDK returned. a may be nil.
func (c *Cloud) failed(p Place, a *account, action, object string, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Place: p, Action: action, Group: object, account: c.options.Accounts[p.Account], skew: c.place(p).clock.skew(), cause: err}
	if a != nil && a.base != nil {
		e.login = a.base.login
	}
	// The innermost operation is the one that failed: one for the credentials, perhaps.
	inner, service := err, ""
	for {
		op, ok := errors.AsType[*smithy.OperationError](inner)
		if !ok {
			break
		}
		e.Action, service, inner = op.OperationName, op.ServiceID, op.Err
	}
	if service == imds.ServiceID {
		e.Action = action
	}
	credentials, forCredentials := errors.AsType[*credentialsError](err)
	api, answered := errors.AsType[smithy.APIError](inner)
	link, linked := errors.AsType[*url.Error](inner)
	var canceled interface {
		error
		CanceledError() bool
	}
	switch {
	case service != imds.ServiceID && errors.As(inner, &canceled) && canceled.CanceledError():
		e.Message = canceled.Error()
		if ended := errors.Unwrap(canceled); ended != nil {
			e.Message = ended.Error()
		}
	case errors.Is(err, errNoAccount):
		e.kind, e.Message = kindNoAccount, fmt.Sprintf("the configuration has no account %q", p.Account)
	case answered:
		e.Code, e.Message = api.ErrorCode(), api.ErrorMessage()
	case linked && service != imds.ServiceID:
		e.kind, e.Message = kindUnreachable, unreachable(link)
	case forCredentials:
		e.kind, e.Message = kindNoCredentials, unavailing(credentials.cause)
		if _, ok := errors.AsType[*ssocreds.InvalidTokenError](err); ok || strings.HasPrefix(e.login, "aws ") {
			e.kind = kindExpired
		}
	default:
		e.Message = inner.Error()
		if isNetwork(inner) {
			e.kind = kindUnreachable
		}
	}
	e.Code = printable.Text(e.Code)
	e.Message = printable.Text(strings.TrimSpace(encoded.ReplaceAllString(e.Message, "")))
	if IsExpired(e) && a != nil && a.base != nil {
		c.forget(a)
	}
	return e
}

// encoded is the part of a message that only sts:DecodeAuthorizationMessage can read, and
// there only for those who may call it.
var encoded = regexp.MustCompile(`(?s)\s*Encoded authorization failure message:.*`)

func isNetwork(err error) bool {
	_, ok := errors.AsType[net.Error](err)
	var connection interface{ ConnectionError() bool }
	return ok || errors.As(err, &connection) && connection.ConnectionError()
}

func unreachable(err *url.Error) string {
	host := err.URL
	if u, parseErr := url.Parse(err.URL); parseErr == nil {
		host = u.Host
	}
	if err.Timeout() {
		return host + " did not answer in time"
	}
	return fmt.Sprintf("reach %s: %v", host, err.Err)
}

// unavailing is why there are no credentials, without what the SDK says of its own parts.
func unavailing(err error) string {
	if missing, ok := errors.AsType[awsconfig.SharedConfigProfileNotExistError](err); ok {
		return fmt.Sprintf("~/.aws/config has no profile %q", missing.Profile)
	}
	if strings.Contains(err.Error(), "no EC2 IMDS role found") {
		return "no credentials: neither the environment nor ~/.aws names any, and this machine has no role"
	}
	text := strings.TrimPrefix(err.Error(), "failed to refresh cached credentials, ")
	return "no credentials: " + text
}

// code is the API's code of an error; "" where there is none.
func code(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

func is(err error, kinds ...kind) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && slices.Contains(kinds, e.kind)
}

// IsDuplicate reports that there is such a rule already, whoever's, or that a call named one twice.
func IsDuplicate(err error) bool { return code(err) == "InvalidPermission.Duplicate" }

// IsNotFound reports that the rule, the list or the group is not there. IsNoGroup tells the last.
func IsNotFound(err error) bool { return strings.HasSuffix(code(err), ".NotFound") }

// IsNoGroup reports that there is no such group at this place: it may be at another one.
func IsNoGroup(err error) bool {
	switch code(err) {
	case "InvalidGroup.NotFound", "InvalidGroupId.NotFound", "InvalidSecurityGroupID.NotFound", "InvalidGroupId.Malformed", "InvalidGroupID.Malformed":
		return true
	}
	return false
}

// IsQuota reports that a group has no room for more rules, or a list for more entries, or
// a region for more lists, or the groups that name a list for a larger one.
func IsQuota(err error) bool {
	switch c := code(err); c {
	case "RequestLimitExceeded", "TagLimitExceeded", "BandwidthLimitExceeded":
		return false
	default:
		return strings.HasSuffix(c, "LimitExceeded") || strings.HasSuffix(c, "MaxEntriesExceeded") || c == "modify-failed"
	}
}

// IsTagLimit reports that there are MaxTags tags already.
func IsTagLimit(err error) bool { return code(err) == "TagLimitExceeded" }

// IsVersionMismatch reports that somebody else has modified the list since it was read.
func IsVersionMismatch(err error) bool { return code(err) == "PrefixListVersionMismatch" }

// IsBusy reports that a list is being modified, or a group or list still in use.
func IsBusy(err error) bool {
	switch code(err) {
	case "IncorrectState", "DependencyViolation", "delete-failed":
		return true
	}
	return false
}

// IsThrottled reports that there were too many calls, for as long as it was tried.
func IsThrottled(err error) bool {
	_, ok := retry.DefaultThrottleErrorCodes[code(err)]
	return ok
}

// IsDenied reports that the credentials do not allow the action.
func IsDenied(err error) bool {
	switch code(err) {
	case "UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "Client.UnauthorizedOperation":
		return true
	}
	return false
}

// IsNoCredentials reports that no credentials were found, or that the account or its
// profile is not there.
func IsNoCredentials(err error) bool { return is(err, kindNoCredentials, kindNoAccount) }

// IsNoAccount reports that the configuration has no account of the place's name.
func IsNoAccount(err error) bool { return is(err, kindNoAccount) }

// IsExpired reports credentials that AWS takes no more, or never took.
func IsExpired(err error) bool {
	switch code(err) {
	case "ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired", "InvalidClientTokenId",
		"UnrecognizedClientException", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException", "InvalidAccessKeyId",
		"MissingAuthenticationToken", "IncompleteSignature",
		"UnauthorizedException", "InvalidGrantException": // of single sign-on
		return true
	}
	return is(err, kindExpired)
}

// IsUnreachable reports that AWS could not be reached, or did not answer.
func IsUnreachable(err error) bool { return is(err, kindUnreachable) }

// IsWrongAccount reports that the credentials are for another account than the
// configuration says.
func IsWrongAccount(err error) bool { return is(err, kindWrongAccount) }

// Hint is what to do now about an error, in one line; "" where there is nothing to say.
func Hint(err error) string {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return ""
	}
	account := "the account"
	if e.Place.Account != "" {
		account = "account " + e.Place.Account
	}
	where := ""
	if e.Group != "" {
		where = " on " + e.Group
	}
	switch {
	case e.kind == kindNoAccount:
		return "name the account in aws.accounts, or correct the target's"
	case e.kind == kindWrongAccount:
		return "correct the id, the profile or the role of " + account + " in aws.accounts, or log in to the other account"
	case IsDenied(err) && strings.HasPrefix(e.Action, "AssumeRole"):
		return "let the trust policy of " + e.account.Role + " name whom you are, with the external id that aws.accounts has, and let your own policy allow sts:AssumeRole"
	case IsDenied(err):
		return "let the policy of " + account + " allow ec2:" + e.Action + where
	case IsExpired(err) && e.skew.Abs() > skewThreshold:
		return fmt.Sprintf("set this machine's clock: it is %v off AWS's", e.skew.Abs().Round(time.Second))
	case IsExpired(err), IsNoCredentials(err):
		switch {
		case e.login != "":
			return "log in again: " + e.login
		case e.account.Profile != "":
			return "give the profile " + e.account.Profile + " valid credentials: aws configure --profile " + e.account.Profile
		case IsExpired(err):
			return "log in again: the access key or the session in the environment is of no use any more"
		}
		return "log in (aws sso login), set AWS_PROFILE, or name a profile for " + account + " in aws.accounts"
	case IsNoGroup(err):
		return "look for the group" + where + " in another region or account: a target names all three"
	case IsQuota(err):
		return "see `sekisho plan` for what takes the room" + where + ", or have AWS raise the quota"
	case IsTagLimit(err):
		return fmt.Sprintf("close what is not needed%s: at most %d tags fit", where, MaxTags)
	case IsVersionMismatch(err), IsBusy(err):
		return "somebody else is at it" + where + ": do it again"
	case IsThrottled(err):
		return "wait a minute: others call EC2 in " + account + " too"
	case IsDuplicate(err):
		return "see `sekisho where` for the rule that is there already" + where
	case IsNotFound(err):
		return "read what is there" + where + ": somebody else has removed it"
	case e.Code == "OptInRequired":
		return "enable the region " + e.Place.Region + " for " + account + ", or take it from the configuration"
	case IsUnreachable(err):
		return "check the network, HTTPS_PROXY and the region's name " + e.Place.Region
	}
	return ""
}
