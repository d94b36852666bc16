package page

import (
	"fmt"
	"time"

	"sekisho/internal/gate/api"
)

func english() *Words {
	return &Words{
		Lang: "en", OtherLang: "ja", Other: "日本語",

		Brand: "Sekisho", Skip: "To the content", Menu: "Pages", SignOut: "Sign out", Back: "Back", Language: "Language",
		NavDoors: "My doors", NavApprovals: "Approvals", NavAccount: "My keys", NavPeople: "People", NavTargets: "Targets",
		NavHosts: "Hosts", NavLive: "Who is in", NavAudit: "Audit", Yes: "Yes", No: "No", Never: "never", None: "none",
		Cancel: "Cancel", Save: "Save", Add: "Add", Delete: "Delete", Edit: "Edit", Name: "Name", Reason: "Reason",
		SignedInAs:  func(name string) string { return "Signed in as " + name },
		NeedsScript: "Passkeys need JavaScript, which is off in this browser.",

		SignInTitle: "Sign in", SignInLead: "Show who you are, then open your doors.",
		SignInPasskey: "Sign in with a passkey", SignInWith: "Sign in with", NoPasskeys: "Your browser has no passkeys for this address.",
		NoWay:     "Nobody can sign in here with a browser. The command line works: it signs with your SSH key.",
		SignInCLI: "No passkey yet? Ask an administrator for an invitation, or make a link with your SSH key: sekisho gate passkey",
		Leaving:   "You are being sent to sign in.", LeavingLink: "Go on",
		InviteTitle: "Welcome", InviteLead: "Make a passkey: your device, your phone or a security key will remember it. There is no password.",
		InviteFirst: "You are the first administrator of this gate.", InviteName: "Your name here",
		InviteNameHint: "Letters, digits, dots, hyphens. It stands in every list and in the audit.",
		InviteLabel:    "What to call this passkey", InviteLabelHint: "For example: laptop, phone, blue key", InviteButton: "Make a passkey",
		InviteUsed: "This link was used already, or is not known. Ask for another.",
		InviteNone: "This page needs the whole link that you were given.", PasskeyWhat: "Your device asks you now: touch it, or unlock it.",
		PasskeyCancelled: "Nothing was done: the question was closed, or nobody answered it. Try again.",
		PasskeyFailed:    "That did not work.", PasskeyUnsupported: "This browser cannot use passkeys here. Try another browser or device.",
		Working: "One moment …", Disconnected: "The gate does not answer. What is shown may be old.",
		InviteFor:   func(s string) string { return "For " + s },
		InviteUntil: func(s string) string { return "Good once, until " + s },

		DoorsTitle: "My doors", NoDoors: "There is no door for you here yet. Ask an administrator.",
		Open: "Open", OpenVerb: "Open the door", Ask: "Ask for it", Close: "Close", Withdraw: "Withdraw", Extend: "Make it longer", Shut: "Shut",
		WaitingState: "Waits for approval", AskedState: "Is being opened", EndingState: "Is being closed", EndedState: "Closed", Remaining: "Time left",
		YouComeFrom: "You come from", YourAddresses: "Your addresses", AddressFor: "Open it for",
		WhoElse: "Also in", NobodyElse: "Nobody else is in.", HowLong: "For how long", Usual: "as long as is usual",
		WhyNeeded: "Why? (needed)", WhyPlaceholder: "What are you going to do?", NotNow: "Not for you now", WhyNot: "Why not?",
		Always: "Always let in, without asking:", BreakTitle: "Emergency: break the glass",
		BreakLead: "Opens at once, without approval and at any hour. Every administrator is told, and it stays in the audit.",
		BreakVerb: "Break the glass", BreakMark: "Break glass", NotConnected: "The host is not connected to the gate now. It will be opened when it is back.",

		Stuck:        "This should have been closed. It is being tried again, and administrators are told.",
		OnePage:      "A page for this door alone, to bookmark",
		AfterConnect: "sekisho ssh closes it as soon as you are connected.", AtExit: "sekisho ssh closes it when you are done.",
		Whole64: "Over IPv6 your whole /64 network is let in.", ConfirmTitle: "Open this door?",
		AlsoV4: "IPv4", AlsoV6: "IPv6", NoFamily: "none seen", Reasons: "Why?",
		Port:          func(port int) string { return fmt.Sprintf("port %d", port) },
		AtMost:        func(d string) string { return "at most " + d },
		NeedsApproval: func(of string) string { return "Needs a yes from " + of + "." },
		UntilAt:       func(t string) string { return "until " + t },
		ApprovedBy:    func(name string) string { return "approved by " + name },

		Denied: func(by, why string) string {
			if why == "" {
				return by + " said no to what you asked for."
			}
			return by + " said no to what you asked for: " + why
		},
		ApprovalsTitle: "Approvals", NoApprovals: "Nothing waits for your answer.", Approve: "Say yes", Deny: "Say no", AskedFor: "Asked for",
		AnswerReason: "A word to them (not needed)",
		AsksFor:      func(person, target string) string { return person + " asks for " + target },

		AccountTitle: "My keys", Keys: "SSH keys", NoKeys: "No SSH key is known of you.", Passkeys: "Passkeys", NoPasskeysYet: "You have no passkey.",
		AddPasskey: "Add a passkey", PasskeyName: "What to call it", Created: "Made", Used: "Last used",
		KeysHint:    "An administrator adds SSH keys.",
		OtherDevice: "Another device", OtherDeviceLead: "Make a link, good once, and open it there to make a passkey on that device.", MakeLink: "Make a link",
		SignOutAll: "Sign out everywhere", SignOutAllLead: "Ends every session that you have, in all browsers. What is open stays open.",
		Groups: "Groups", Role: "Role", Fixed: "Fixed addresses", Login: "Name at the identity provider", SessionUntil: "Signed in until",
		RoleOf: func(r api.Role) string {
			switch r {
			case api.RoleAdmin:
				return "administrator"
			case api.RoleHost:
				return "host"
			case api.RolePerson:
				return "person"
			}
			return "none"
		},

		PeopleTitle: "People", AddPerson: "Add somebody", Person: "Person", Seen: "Last seen", State: "State", Declared: "in the file",
		DeclaredLead: "This stands in the configuration file and is changed there.", Enabled: "enabled", Disabled: "disabled",
		Invite: "Make an invitation", InviteAgain: "Invite", Disable: "Disable …", Enable: "Enable", DisableTitle: "Disable",
		DisableLead: "From this moment nothing opens for them, they are signed out everywhere, and all that they have open is closed.",
		Cut:         "Cut their connections too", CutLead: "Hosts end the connections at once. A security group cannot: there, who is connected stays so until they leave.",
		GroupsHint: "Parted by commas or spaces", FixedHint: "Addresses, parted by commas or spaces", LoginHint: "Left empty: they do not sign in there",
		KeysLines: "SSH keys, one on each line, as in ~/.ssh/id_ed25519.pub", DeletePersonLead: "All that they have open is closed, and they are forgotten. The audit keeps their name.",
		LinkTitle: "An invitation", LinkLead: "Give this link to them by a way that only they read. It is shown once, and is good once.",
		TokenTitle: "A host's token", TokenLead: "Run this on the host, whose sekisho.yaml names this gate (gate.url). It is shown once, and is good once.", EditedOnly: "Editing is off: the configuration file says who there is.",
		DisabledBy:  func(by, at string) string { return "disabled by " + by + ", " + at },
		DeleteTitle: func(name string) string { return "Delete " + name + "?" },

		TargetsTitle: "Targets", Target: "Target", Kind: "Kind", Where: "Where", AddTarget: "Add a target", TargetYAML: "Configuration (YAML)",
		TargetHint: "What stands under a target's name in the file: aws or agent, host, port, allow …", DeleteTargetLead: "All that is open there is closed.",
		HostsTitle: "Hosts", Host: "Host", AddHost: "Add a host", HostHint: "Makes a token by which the host makes itself known.",
		Connected: "connected", Unconnected: "not connected", Version: "Version", InForce: "In force", Key: "Key", NotEnrolled: "not enrolled yet",
		DeleteHostLead: "It gets nothing more from the gate. What is open there ends by itself, on time.", NoHosts: "No host is known.", NoTargets: "There are no targets.",
		KindGroup: "security group", KindHost: "host", Findings: "What is wrong",

		LiveTitle: "Who is in", NoLive: "Nobody is in.", Address: "Address", Until: "Until", Since: "Since", Rule: "Rule",
		AuditTitle: "Audit", NoEntries: "There are no such entries.", From: "From", To: "To", What: "What", When: "When", Who: "Who",
		Filter: "Filter", Export: "Export (JSON Lines)", Verify: "Check the chain", Older: "Older", ChainWhole: "The chain is whole.",
		Refused: "refused", Result: "Result", Done: "done", Approver: "Approved by",
		ChainBroken: func(at int64, what string) string {
			return fmt.Sprintf("The chain is broken at entry %d: %s", at, what)
		},
		Entries: func(n int64) string {
			if n == 1 {
				return "1 entry"
			}
			return fmt.Sprintf("%d entries", n)
		},

		ErrorTitle: "That did not work", RequestID: "Number for the administrator", Hint: "What to do",
		ErrorOf: func(api.Code) string { return "" },
		Why: func(why string) string {
			switch why {
			case "closed", "expired", "disabled", "denied", "failed", "withdrawn":
				return why
			}
			return why
		},
		Duration: func(d time.Duration) string {
			return units(d, unit("%d d"), unit("%d h"), unit("%d min"), unit("%d s"), " ")
		},
	}
}
