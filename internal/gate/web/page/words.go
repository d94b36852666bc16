package page

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"sekisho/internal/gate/api"
)

// Words are a language: all that the pages and their script say. That a language has all
// of them words_test.go sees to; what takes a name or a number is a function.
type Words struct {
	Lang      string // BCP 47
	OtherLang string // the language that the switch leads to
	Other     string // its name, in itself

	// What is on every page.
	Brand, Skip, Menu, SignOut, Back, Language                                    string
	NavDoors, NavApprovals, NavAccount, NavPeople, NavTargets, NavHosts, NavLive  string
	NavAudit, Yes, No, Never, None, Cancel, Save, Add, Delete, Edit, Name, Reason string
	SignedInAs                                                                    func(name string) string
	NeedsScript                                                                   string

	// Signing in, and invitations.
	SignInTitle, SignInLead, SignInPasskey, SignInWith, NoPasskeys, NoWay, SignInCLI     string
	Leaving, LeavingLink                                                                 string
	InviteTitle, InviteLead, InviteFirst, InviteName, InviteNameHint, InviteLabel        string
	InviteLabelHint, InviteButton, InviteUsed, InviteNone, PasskeyWhat, PasskeyCancelled string
	PasskeyFailed, PasskeyUnsupported, Working, Disconnected                             string
	InviteFor, InviteUntil                                                               func(s string) string

	// Doors.
	DoorsTitle, NoDoors, Open, OpenVerb, Ask, Close, Withdraw, Extend, Shut, WaitingState   string
	AskedState, EndingState, EndedState, Remaining, YouComeFrom, YourAddresses, AddressFor  string
	WhoElse, NobodyElse, HowLong, Usual, WhyNeeded, WhyPlaceholder, NotNow, WhyNot, Always  string
	BreakTitle, BreakLead, BreakVerb, BreakMark, NotConnected, Stuck                        string
	OnePage, AfterConnect, AtExit, Whole64, ConfirmTitle, AlsoV4, AlsoV6, NoFamily, Reasons string
	Port                                                                                    func(port int) string
	AtMost                                                                                  func(d string) string
	NeedsApproval                                                                           func(of string) string
	UntilAt                                                                                 func(t string) string
	ApprovedBy                                                                              func(name string) string

	// Approvals.
	ApprovalsTitle, NoApprovals, Approve, Deny, AskedFor, AnswerReason string
	Denied                                                             func(by, why string) string
	AsksFor                                                            func(person, target string) string

	// One's own.
	AccountTitle, Keys, NoKeys, Passkeys, NoPasskeysYet, AddPasskey, PasskeyName, Created string
	Used, KeysHint, OtherDevice, OtherDeviceLead, MakeLink, SignOutAll, SignOutAllLead    string
	Groups, Role, Fixed, Login, SessionUntil                                              string
	RoleOf                                                                                func(r api.Role) string

	// People.
	PeopleTitle, AddPerson, Person, Seen, State, Declared, DeclaredLead, Enabled, Disabled string
	Invite, InviteAgain, Disable, Enable, DisableTitle, DisableLead, Cut, CutLead          string
	GroupsHint, FixedHint, LoginHint, KeysLines, DeletePersonLead, LinkTitle, LinkLead     string
	TokenTitle, TokenLead, EditedOnly                                                      string
	DisabledBy                                                                             func(by, at string) string
	DeleteTitle                                                                            func(name string) string

	// Targets and hosts.
	TargetsTitle, Target, Kind, Where, AddTarget, TargetYAML, TargetHint, DeleteTargetLead string
	HostsTitle, Host, AddHost, HostHint, Connected, Unconnected, Version, InForce, Key     string
	NotEnrolled, DeleteHostLead, NoHosts, NoTargets, KindGroup, KindHost, Findings         string

	// Live and audit.
	LiveTitle, NoLive, Address, Until, Since, Rule, AuditTitle, NoEntries, From, To, What string
	When, Who, Filter, Export, Verify, Older, ChainWhole, Refused, Result, Done, Approver string
	ChainBroken                                                                           func(at int64, what string) string
	Entries                                                                               func(n int64) string

	// Errors.
	ErrorTitle, RequestID, Hint string
	ErrorOf                     func(c api.Code) string // "": the message says it
	Why                         func(why string) string // why a grant has ended

	Duration func(d time.Duration) string // in its two largest units
}

// In is the language's words, which nobody changes.
func In(l Language) *Words {
	if l == Japanese {
		return inJapanese()
	}
	return inEnglish()
}

var inEnglish, inJapanese = sync.OnceValue(english), sync.OnceValue(japanese)

// clock is a time as it stands in a page until the script has put it into the reader's zone.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// units parts a length into its two largest units.
func units(d time.Duration, day, hour, minute, second func(int64) string, between string) string {
	d = max(0, d.Round(time.Second))
	var parts []string
	for _, u := range []struct {
		of  time.Duration
		say func(int64) string
	}{{24 * time.Hour, day}, {time.Hour, hour}, {time.Minute, minute}, {time.Second, second}} {
		n := d / u.of
		d -= n * u.of
		if n > 0 && len(parts) < 2 {
			parts = append(parts, u.say(int64(n)))
		} else if len(parts) > 0 {
			break
		}
	}
	if len(parts) == 0 {
		return second(0)
	}
	return strings.Join(parts, between)
}

func unit(format string) func(int64) string {
	return func(n int64) string { return fmt.Sprintf(format, n) }
}
