// Package accounts reads who may log in on this host: accounts, whether they have a
// password, how they become root, and their authorized keys. It reads files and asks
// NSS (getent) and sudo; it changes nothing. A mechanism.
//
// All that users can write is hostile. Everything read is bounded, a key file is opened
// as sshd opens it (with its user's rights, not blocking, regular files only), and one
// that does not answer in time is a Problem of its account.
package accounts

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Account is a user of this host.
type Account struct {
	Name  string
	UID   int
	GID   int
	Home  string
	Shell string
	// Groups are the names of its groups, the primary one first.
	Groups []string
	// Login is false where the shell lets nobody in (nologin, false, none at all) or the
	// account has expired. sshd still lets keys forward ports where only the shell refuses.
	Login    bool
	Password Password
	// Barred: the password begins with "!". Without UsePAM sshd then refuses the account,
	// keys or not (openssh-portable platform.c, platform_locked_account).
	Barred bool
	// Root says how the account becomes root: "uid 0", "group sudo", "sudoers", "doas"; "":
	// not at all, as far as could be seen. See BecomesRoot.
	Root string
	// AsksPassword: sudo asks for the account's own password first.
	AsksPassword bool
	Keys         []Key
	// Problems are why sshd would not take its key file (StrictModes), or why we could not read it.
	Problems []Problem
}

// BecomesRoot reports whether the account can become root once it is logged in: it has
// the right to, and the password that sudo asks for.
func (a Account) BecomesRoot() bool {
	return a.Root != "" && (!a.AsksPassword || a.Password == PasswordSet || a.Password == PasswordUnknown)
}

// Usable are the keys that sshd would take at now: plain keys whose file and line it
// does not refuse. Keys of a certificate authority are not among them, since nobody
// knows who holds a certificate.
func (a Account) Usable(now time.Time) []Key {
	var usable []Key
	for _, k := range a.Keys {
		if k.Authority() || k.expired(now) || a.refuses(k.File, k.Line) {
			continue
		}
		usable = append(usable, k)
	}
	return usable
}

// NoKey says why no key would let the account in at now; "": one would, as far as was
// seen. elsewhere: sshd takes keys that are in no file of the account's.
func (a Account) NoKey(now time.Time, elsewhere bool) (why string) {
	trusts := slices.ContainsFunc(a.Keys, func(k Key) bool { return k.Authority() && !a.refuses(k.File, k.Line) })
	bad := slices.IndexFunc(a.Problems, func(p Problem) bool { return !p.Unseen && p.Line == 0 })
	unseen := slices.IndexFunc(a.Problems, func(p Problem) bool { return p.Unseen })
	switch {
	case !a.Login:
		return "its shell lets nobody in, or it has expired"
	case trusts || len(a.Usable(now)) > 0:
		return ""
	case bad >= 0:
		return fmt.Sprintf("sshd would not take the keys: %s is %s", a.Problems[bad].File, a.Problems[bad].What)
	case elsewhere:
		return ""
	case len(a.Keys) > 0:
		return "sshd takes none of its keys: they have expired, or their lines are wrong"
	case unseen >= 0:
		return fmt.Sprintf("its keys could not be seen: %s: %s", a.Problems[unseen].File, a.Problems[unseen].What)
	}
	return "there is no key any more"
}

func (a Account) refuses(file string, line int) bool {
	for _, p := range a.Problems {
		if p.File == file && !p.Unseen && (p.Line == 0 || p.Line == line) {
			return true
		}
	}
	return false
}

// Password is what /etc/shadow has. The zero value: it could not be seen.
type Password uint8

// The states of a password.
const (
	PasswordUnknown Password = iota
	PasswordNone             // logs in without one
	PasswordLocked
	PasswordSet
)

// Key is a line of an authorized_keys file.
type Key struct {
	File        string
	Line        int
	Type        string // "ssh-ed25519"
	Bits        int    // RSA's and DSA's; 0 where the type says it
	Fingerprint string // SHA256:...
	Comment     string // hostile, as all of the line
	Options     []string
	Modified    time.Time // of the file
}

// Authority reports whether the key is a certificate authority's: whoever holds a
// certificate of it logs in.
func (k Key) Authority() bool { return k.option("cert-authority") }

// Restricted reports whether an option narrows what the key may do or from where:
// restrict, command, from, or all forwarding denied.
func (k Key) Restricted() bool {
	if k.option("restrict") {
		return true
	}
	for _, o := range k.Options {
		name, _, _ := strings.Cut(o, "=")
		if strings.EqualFold(name, "command") || strings.EqualFold(name, "from") {
			return true
		}
	}
	return false
}

func (k Key) option(name string) bool {
	for _, o := range k.Options {
		if strings.EqualFold(o, name) {
			return true
		}
	}
	return false
}

// expired reads expiry-time="YYYYMMDD[HHMM[SS]][Z]" (sshd(8)). One that cannot be read
// is no expiry: sshd refuses the line, and the parser says so.
func (k Key) expired(now time.Time) bool {
	for _, o := range k.Options {
		name, value, _ := strings.Cut(o, "=")
		if !strings.EqualFold(name, "expiry-time") {
			continue
		}
		if t, ok := parseExpiry(strings.Trim(value, `"`), now.Location()); ok && !now.Before(t) {
			return true
		}
	}
	return false
}

// Problem is something wrong with a file.
type Problem struct {
	File string
	Line int    // 0: the whole file
	What string // "writable by group"; may hold what others wrote
	// Unseen: it is only that we may not look.
	Unseen bool
}

// Options say where to look. The zero value looks at this machine.
type Options struct {
	Root string // of the file system; "": "/". With another NSS and sudo are not asked
	// KeyFiles are sshd's AuthorizedKeysFile patterns; none: .ssh/authorized_keys, .ssh/authorized_keys2.
	KeyFiles []string
	// StrictModes: false leaves the permissions out.
	StrictModes bool

	keyTime time.Duration // of tests; 0: keyTime
}
