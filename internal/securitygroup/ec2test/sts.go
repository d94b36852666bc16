package ec2test

import (
	"crypto/subtle"
	"regexp"
	"strings"
	"time"
)

// Key is an access key, and whose it is.
type Key struct {
	ID      string // what a signature names
	Account string // DefaultAccount, when empty
	User    string // of IAM: "test", when empty
	Token   string // that has to come with it, if any
	// Of AssumeRole's keys: the role, the names that the session goes by, and its end.
	Role, Session, SourceIdentity string
	Until                         time.Time
}

// Role is what AssumeRole lends: a role of another account, or of the same.
type Role struct {
	ARN        string   // arn:aws:iam::210987654321:role/name
	ExternalID string   // that has to be given, if any
	Trusts     []string // accounts that may have it; all, when empty
}

const keyPrefix = "AKIA0000"

// KeyOf is the access key of an account that need not be added.
func KeyOf(account string) string { return keyPrefix + account }

// AddKey has calls that are signed with a key be an account's.
func (s *Server) AddKey(k Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[k.ID] = k
}

// AddRole has AssumeRole lend a role.
func (s *Server) AddRole(r Role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[r.ARN] = r
}

// accountOf is the account in an ARN.
func accountOf(arn string) string {
	if parts := strings.Split(arn, ":"); len(parts) > 5 {
		return parts[4]
	}
	return ""
}

func (k Key) arn() string {
	if k.ID == "" {
		return ""
	}
	if k.Role != "" {
		return "arn:aws:sts::" + k.Account + ":assumed-role/" + k.Role[strings.LastIndex(k.Role, "/")+1:] + "/" + k.Session
	}
	return "arn:aws:iam::" + k.Account + ":user/" + k.User
}

var credential = regexp.MustCompile(`^AWS4-HMAC-SHA256 .*\bCredential=([!-~]{1,128})/[0-9]{8}/([a-z0-9-]{1,64})/(?:ec2|sts)/aws4_request\b`)

// authenticate finds whose a call is, and where; the signature is not verified.
func (c *call) authenticate() error {
	m := credential.FindStringSubmatch(c.r.Header.Get("Authorization"))
	if m == nil {
		return refuse("AuthFailure", "AWS was not able to validate the provided access credentials")
	}
	s := c.s
	s.mu.Lock()
	k, ok := s.keys[m[1]]
	s.mu.Unlock()
	if !ok {
		k = Key{ID: m[1]}
		if account, ok := strings.CutPrefix(m[1], keyPrefix); ok && len(account) == 12 && strings.Trim(account, "0123456789") == "" {
			k.Account = account
		}
	}
	if k.Account == "" {
		k.Account = DefaultAccount
	}
	if k.User == "" {
		k.User = "test"
	}
	c.caller, c.place = k, Place{k.Account, m[2]}
	if subtle.ConstantTimeCompare([]byte(k.Token), []byte(c.r.Header.Get("X-Amz-Security-Token"))) == 0 && k.Token != "" {
		return refuse("AuthFailure", "AWS was not able to validate the provided access credentials")
	}
	if !k.Until.IsZero() && !c.now.Before(k.Until) {
		return refuse("RequestExpired", "Request has expired.")
	}
	return nil
}

// identity is the id that IAM gives to whoever a key is of.
func (k Key) identity() string {
	if k.Role != "" {
		return "AROA0000" + k.Account + ":" + k.Session
	}
	return "AIDA0000" + k.Account
}

func getCallerIdentity(c *call, w *writer) error {
	w.in("GetCallerIdentityResult", func() {
		w.text("Arn", c.caller.arn())
		w.text("UserId", c.caller.identity())
		w.text("Account", c.caller.Account)
	})
	return nil
}

var sessionName = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{2,64}$`)

func assumeRole(c *call, w *writer) error {
	if err := c.in.required("RoleArn", "RoleSessionName"); err != nil {
		return err
	}
	arn, session, identity := c.in.get("RoleArn"), c.in.get("RoleSessionName"), c.in.get("SourceIdentity")
	if !sessionName.MatchString(session) || identity != "" && !sessionName.MatchString(identity) {
		return refuse("ValidationError", "1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*", session)
	}
	seconds, ok, err := c.in.number("DurationSeconds")
	if err != nil {
		return err
	}
	if !ok {
		seconds = 3600
	}
	if seconds < 900 || seconds > 43200 {
		return refuse("ValidationError", "1 validation error detected: Value '%d' at 'durationSeconds' failed to satisfy constraint", seconds)
	}
	s := c.s
	id := "ASIA" + strings.ToUpper(strings.TrimPrefix(s.id(""), "-0"))
	until := c.now.Add(time.Duration(seconds) * time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	role, ok := s.roles[arn]
	trusted := len(role.Trusts) == 0
	for _, account := range role.Trusts {
		trusted = trusted || account == c.caller.Account
	}
	if !ok || !trusted || role.ExternalID != "" && role.ExternalID != c.in.get("ExternalId") {
		return refuse("AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", c.caller.arn(), arn)
	}
	k := Key{ID: id, Account: accountOf(arn), Role: arn, Session: session, SourceIdentity: identity, Token: "token-of-" + id, Until: until}
	s.keys[id] = k
	w.in("AssumeRoleResult", func() {
		w.in("Credentials", func() {
			w.text("AccessKeyId", id)
			w.text("SecretAccessKey", "secret-of-"+id)
			w.text("SessionToken", k.Token)
			w.text("Expiration", until.UTC().Format(time.RFC3339))
		})
		w.in("AssumedRoleUser", func() {
			w.text("AssumedRoleId", k.identity())
			w.text("Arn", k.arn())
		})
		w.some("SourceIdentity", identity)
	})
	return nil
}
