package securitygroup

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"

	"sekisho/internal/config"
)

// Each code that EC2 has for it is told by exactly the predicates that are named, and
// there is something to do about it.
func TestPredicates(t *testing.T) {
	predicates := map[string]func(error) bool{
		"duplicate": IsDuplicate, "not found": IsNotFound, "no group": IsNoGroup, "quota": IsQuota, "tag limit": IsTagLimit, "version": IsVersionMismatch,
		"busy": IsBusy, "throttled": IsThrottled, "denied": IsDenied, "no credentials": IsNoCredentials, "no account": IsNoAccount, "expired": IsExpired, "unreachable": IsUnreachable, "wrong account": IsWrongAccount,
	}
	for _, tt := range []struct {
		name string
		e    Error
		want []string
		hint string // a part of it
	}{
		{"there already", Error{Code: "InvalidPermission.Duplicate"}, []string{"duplicate"}, "sekisho where"},
		{"no rule", Error{Code: "InvalidPermission.NotFound"}, []string{"not found"}, "removed"},
		{"no rule of that id", Error{Code: "InvalidSecurityGroupRuleId.NotFound"}, []string{"not found"}, "removed"},
		{"no list", Error{Code: "InvalidPrefixListID.NotFound"}, []string{"not found"}, "removed"},
		{"no group", Error{Code: "InvalidGroup.NotFound"}, []string{"not found", "no group"}, "another region"},
		{"not an id", Error{Code: "InvalidGroupId.Malformed"}, []string{"no group"}, "another region"},
		{"full group", Error{Code: "RulesPerSecurityGroupLimitExceeded", Group: "sg-1"}, []string{"quota"}, "room on sg-1"},
		{"full list", Error{Code: "PrefixListMaxEntriesExceeded"}, []string{"quota"}, "sekisho plan"},
		{"list too large", Error{Code: "modify-failed"}, []string{"quota"}, "sekisho plan"},
		{"tags", Error{Code: "TagLimitExceeded"}, []string{"tag limit"}, "at most 50"},
		{"version", Error{Code: "PrefixListVersionMismatch"}, []string{"version"}, "again"},
		{"state", Error{Code: "IncorrectState"}, []string{"busy"}, "again"},
		{"in use", Error{Code: "DependencyViolation"}, []string{"busy"}, "again"},
		{"too many", Error{Code: "RequestLimitExceeded"}, []string{"throttled"}, "wait"},
		{"denied", Error{Code: "UnauthorizedOperation", Action: "CreateTags"}, []string{"denied"}, "ec2:CreateTags"},
		{"session over", Error{Code: "RequestExpired", login: "aws sso login --profile p"}, []string{"expired"}, "aws sso login --profile p"},
		{"keys over", Error{Code: "InvalidClientTokenId", account: config.Account{Profile: "p"}}, []string{"expired"}, "aws configure --profile p"},
		{"single sign-on over", Error{Code: "UnauthorizedException", login: "aws sso login"}, []string{"expired"}, "log in again: aws sso login"},
		{"clock", Error{Code: "RequestExpired", skew: -time.Hour}, []string{"expired"}, "1h0m0s off"},
		{"environment's keys over", Error{Code: "ExpiredToken"}, []string{"expired"}, "log in again"},
		{"nothing", Error{kind: kindNoCredentials}, []string{"no credentials"}, "aws sso login"},
		{"no account", Error{kind: kindNoAccount}, []string{"no credentials", "no account"}, "aws.accounts"},
		{"network", Error{kind: kindUnreachable}, []string{"unreachable"}, "HTTPS_PROXY"},
		{"other account", Error{kind: kindWrongAccount}, []string{"wrong account"}, "aws.accounts"},
		{"region", Error{Code: "OptInRequired"}, nil, "enable the region"},
		{"anything", Error{Code: "InternalError"}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := fmt.Errorf("open web-prod: %w", &tt.e)
			for name, is := range predicates {
				want := false
				for _, w := range tt.want {
					want = want || w == name
				}
				if got := is(err); got != want {
					t.Errorf("%s: %v, want %v", name, got, want)
				}
			}
			hint := Hint(err)
			if !strings.Contains(hint, tt.hint) || (hint == "") != (tt.hint == "") || strings.Contains(hint, "\n") {
				t.Errorf("hint %q, want one with %q", hint, tt.hint)
			}
		})
	}
	for name, is := range predicates {
		if is(nil) || is(errors.New("x")) {
			t.Errorf("%s of what is no Error", name)
		}
	}
	if Hint(nil) != "" || Hint(errors.New("x")) != "" {
		t.Error("a hint for what is no Error")
	}
}

func TestErrorText(t *testing.T) {
	for _, tt := range []struct {
		name string
		e    Error
		want string
	}{
		{"all of it", Error{Place: Place{"prod", "ap-northeast-1"}, Action: "AuthorizeSecurityGroupIngress", Group: "sg-1", Code: "UnauthorizedOperation", Message: "no"}, "ap-northeast-1 (prod): AuthorizeSecurityGroupIngress sg-1: UnauthorizedOperation: no"},
		{"the environment's account", Error{Place: here, Action: "DescribeSecurityGroups", Message: "no"}, "ap-northeast-1: DescribeSecurityGroups: no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.e.Error(); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// What EC2 says of others' words is shown to people.
func TestFailed(t *testing.T) {
	c := Open(Options{})
	err := c.failed(here, nil, "DescribeSecurityGroups", "", fmt.Errorf("x: %w", &smithy.OperationError{
		ServiceID: "EC2", OperationName: "DescribeSecurityGroups",
		Err: &smithy.GenericAPIError{Code: "Bad\x1b[2J", Message: "red \x1b[31m\n Encoded authorization failure message: aaaa\nbbbb"},
	}))
	if got, want := err.Error(), `ap-northeast-1: DescribeSecurityGroups: Bad\x1b[2J: red \x1b[31m`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := c.failed(here, nil, "x", "", nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}
