package ledger

import (
	"net/netip"
	"time"

	"sekisho/internal/gate/api"
)

// Bounds of what is kept. Texts that are longer are cut, keys that are longer refused.
const (
	MaxPeople    = 10_000
	MaxTargets   = 1_000
	MaxHosts     = 10_000
	MaxPasskeys  = 20     // a person
	MaxSessions  = 100    // a person; the oldest goes
	MaxOnce      = 10_000 // a kind; what ends first goes
	MaxInstances = 1_000

	maxKey    = 255       // bytes of a name, an id
	maxText   = 1024      // bytes of a reason, an error: 200 characters of any script, and more
	maxConfig = 64 * 1024 // bytes of a person's or target's text
	maxData   = 64 * 1024 // bytes of a passkey, a ceremony
	maxID     = 1023      // bytes of a passkey's id (WebAuthn level 3, §5.8.3)
)

// Person is somebody whom administrators have added: the configuration file's are not here.
type Person struct {
	Name    string
	Config  []byte // what stands under a name in the file
	Updated time.Time
	By      string
	Rev     int64 // 0: not there yet; Put refuses another than is there
}

// Target is a target that administrators have added.
type Target struct {
	Name    string
	Config  []byte
	Updated time.Time
	By      string
	Rev     int64 // as a Person's
}

// Disabled is somebody, declared or added, who may not do anything.
type Disabled struct {
	Person string
	At     time.Time
	By     string
	Why    string
}

// Passkey is one of a person's.
type Passkey struct {
	ID      []byte
	Person  string
	Handle  []byte // of the person, as the authenticator has it
	Name    string
	Data    []byte // the credential, as package passkey writes it
	Created time.Time
	Used    time.Time
}

// Session is a browser that is signed in.
type Session struct {
	Hash    [32]byte // of the cookie's token
	Person  string
	Via     api.Via
	Created time.Time
	Until   time.Time
	Seen    time.Time
	From    netip.Addr
	Agent   string
}

// Once is what is good for one use: an invitation, a host's token, a ceremony.
type Once struct {
	Kind   string
	Key    [32]byte // hash of the secret
	Data   []byte
	Person string // whom it is for; "": nobody in particular
	Until  time.Time
}

// Grant is one person's opening of one target for one prefix. It is live in every state
// but Ended.
type Grant struct {
	ID       string
	Target   string
	Person   string
	Prefix   netip.Prefix
	State    api.State
	Asked    time.Time
	Opened   time.Time
	Until    time.Time
	Ended    time.Time
	Length   time.Duration // that was asked for; kept to the microsecond
	Why      string        // it ended
	Reason   string        // the person gave
	Approver string
	Break    bool
	Via      api.Via
	From     netip.Addr
	Rule     string
	Foreign  bool
	InForce  bool
	Error    string
	Tries    int
	Owner    string    // the instance that is at it
	Claimed  time.Time // until when it is
	Cut      bool
	Where    string // the door that it was made at, for who wrote it: not looked into
	Rev      int64  // 1, 2, ...: set by the ledger
}

// Live reports whether it has not ended.
func (g Grant) Live() bool { return g.State != api.Ended }

// Host is a host that may have a stream.
type Host struct {
	Name           string
	Key            string // a line of authorized_keys
	Fingerprint    string // "": not enrolled yet
	Enrolled       time.Time
	Seen           time.Time
	Version        string
	Connected      string // the instance that has its stream
	ConnectedUntil time.Time
	InForce        int
	Error          string
}

// Instance is a gate.
type Instance struct {
	Name  string
	Until time.Time // taken for alive until then
}

// Filter says which entries of the audit are meant; what is zero is any.
type Filter struct {
	Person string // who it is about, or who did it
	Target string
	What   string // an action, or with a "*" at the end what it begins with
	From   time.Time
	To     time.Time // not included
	Before int64     // entries before this one
	Limit  int       // 1,000 unless set, at most that
}

// Head is the audit's last entry: known elsewhere, it proves that nothing was cut off.
type Head struct {
	Seq  int64
	Hash string // 64 hexadecimal digits
}
