package message

import (
	"strings"
	"time"

	"sekisho/internal/iso3166"
	"sekisho/internal/notify"
	"sekisho/internal/printable"
)

type english struct{}

func (english) Lang() string { return "en" }

func (english) Duration(d time.Duration) string {
	name := map[time.Duration]string{24 * time.Hour: "day", time.Hour: "hour", time.Minute: "minute", time.Second: "second"}
	first, unit, second, lesser := span(d)
	s := count(first, name[unit])
	if second > 0 {
		s += " " + count(second, name[lesser])
	}
	return s
}

// count is n of something whose plural takes an s.
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return printable.Grouped(n) + " " + one + "s"
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func (english) List(items []string, more bool) string {
	s := strings.Join(items, ", ")
	if more {
		s += ", …"
	}
	return s
}

func (english) Counted(name, n string) string { return name + " ×" + n }

func (english) Nth(n int) string { return printable.Ordinal(n) }

func (e english) ThisIs(n int) string {
	if n == 1 {
		return "this is the first"
	}
	return "this is the " + e.Nth(n)
}

func (english) Country(code string) string {
	if len(code) != 2 {
		return ""
	}
	return iso3166.Code{code[0], code[1]}.Name()
}

func (english) Message(kind string) (string, bool) {
	switch kind {
	case "failed":
		return "failed login", true
	case "failed_none":
		return "login without a method", true
	case "failed_password":
		return "wrong password", true
	case "failed_publickey":
		return "key refused", true
	case "failed_keyboard_interactive":
		return "wrong answer (keyboard-interactive)", true
	case "failed_hostbased":
		return "host-based login refused", true
	case "failed_gssapi":
		return "Kerberos login refused", true
	case "unknown":
		return "unknown message", true
	case "connection":
		return "connection", true
	case "accepted":
		return "login", true
	case "postponed":
		return "login half way", true
	case "invalid_user":
		return "user who does not exist", true
	case "pam_failure":
		return "refused by PAM", true
	case "pam_more_failures":
		return "PAM's sum of failures", true
	case "pam_error":
		return "PAM error", true
	case "pam_user_unknown":
		return "user unknown to PAM", true
	case "max_attempts", "too_many_failures":
		return "too many failures in a connection", true
	case "root_refused":
		return "root login refused", true
	case "not_allowed":
		return "user who may not log in", true
	case "change_of_user":
		return "changed the user name midway", true
	case "disconnecting":
		return "thrown out by sshd", true
	case "closed":
		return "left before logging in", true
	case "reset":
		return "connection reset", true
	case "disconnected", "received_disconnect":
		return "said goodbye before logging in", true
	case "auth_fail_disconnect":
		return "gave up logging in", true
	case "session_opened":
		return "session opened", true
	case "session_closed":
		return "session closed", true
	case "no_identification":
		return "connected and said nothing", true
	case "bad_identification":
		return "did not speak SSH", true
	case "kex_closed":
		return "left before the key exchange", true
	case "negotiation_failed":
		return "no common algorithm", true
	case "packet_error":
		return "broke the protocol", true
	case "timeout":
		return "login timed out", true
	case "refused_by_wrappers":
		return "refused by hosts.deny", true
	case "reverse_mapping":
		return "contradictory DNS names", true
	case "penalty":
		return "penalised by sshd", true
	case "drop_penalty":
		return "refused under a penalty", true
	case "drop_max_startups":
		return "refused under MaxStartups", true
	case "crash":
		return "sshd process crashed", true
	case "note":
		return "remark", true
	}
	return "", false
}

func (english) Method(method, raw string) string {
	switch method {
	case "publickey":
		return "public key"
	case "keyboard_interactive":
		return "keyboard-interactive"
	case "gssapi":
		return "Kerberos (GSSAPI)"
	case "hostbased":
		return "the client's host key (hostbased)"
	}
	return raw
}

func (english) Cause(cause, raw string) string {
	switch cause {
	case "attempts":
		return "too many attempts"
	case "distributed":
		return "part of an attack on user names from many addresses"
	case "escalation":
		return "many banned addresses in one network"
	case "manual":
		return "banned by hand"
	}
	return raw
}

func (english) Nameless() string { return "(empty)" }
func (english) HostAnd(host string, more int) string {
	return host + " and " + printable.Grouped(more) + " more"
}
func (english) NoEnd() string                        { return "without end, until it is lifted" }
func (english) NoEndShort() string                   { return "no end" }
func (english) UntilFor(until, length string) string { return until + " (for " + length + ")" }

func (e english) Banned(who string, b *notify.BanFacts, names string) string {
	s := "banned "
	if !b.Enforced {
		s = "dry run: would ban "
	}
	if b.Cause == "escalation" {
		s += "network "
	}
	s += who
	if b.Count > 1 {
		s += " for the " + e.Nth(b.Count) + " time"
	}
	switch {
	case b.Cause == "escalation":
		return s + ": " + printable.Grouped(b.Attempts) + plural(b.Attempts, " address", " addresses") + " in it banned"
	case b.Cause == "manual":
		if holder := clean(b.Holder, 40); holder != "" {
			s += " by " + holder
		}
		if reason := clean(b.Reason, 80); reason != "" {
			s += ": " + reason
		}
		return s
	case b.Attempts > 0:
		s += ": " + count(b.Attempts, "attempt")
		if names != "" {
			s += " as " + names
		}
	}
	return s
}

func (english) Unbanned(who, holder string) string {
	s := "ban of " + who + " lifted"
	if holder != "" {
		s += " by " + holder
	}
	return s
}

func (english) AttackBegan(bans, attempts int) string {
	return "under attack: " + count(bans, "ban") + ", " + count(attempts, "attempt") + " so far"
}

func (english) AttackEnded(bans, attempts int, lasted string) string {
	s := "attack over: " + count(bans, "ban") + ", " + count(attempts, "attempt")
	if lasted != "" {
		s += " in " + lasted
	}
	return s
}

func (english) LoggedIn(doubt bool, user, who string) string {
	if doubt {
		return "doubtful login of " + user + " from " + who
	}
	return "login of " + user + " from a new place: " + who
}

func (english) Headline(k notify.Kind, state notify.State, raw string) string {
	var s string
	switch k {
	case notify.Trial:
		switch state {
		case notify.Began:
			s = "trial begun"
		case notify.Confirmed:
			s = "trial confirmed"
		case notify.Reverted:
			s = "trial reverted"
		default:
			s = "trial"
		}
	case notify.Drift:
		s = "rules changed by others"
	case notify.Conntrack:
		s = "connection tracking"
		if state == notify.Over {
			s = "connection tracking: well again"
		}
	case notify.Country:
		s = "country data refused"
		if state == notify.Over {
			s = "country data: well again"
		}
	case notify.LeaseStuck:
		s = "rule outlives its lease"
		if state == notify.Over {
			s = "no rule outlives its lease any more"
		}
	case notify.GroupFinding:
		s = "security group"
	case notify.GateApproval:
		s = "approval wanted"
	case notify.GateBreakGlass:
		s = "the glass was broken"
	case notify.GateDisabled:
		s = "person disabled"
	case notify.Degraded:
		switch state {
		case notify.Began:
			s = "something is wrong"
		case notify.Over:
			s = "well again"
		default:
			s = "sekisho's own health"
		}
	case notify.Report:
		s = "weekly report"
	case notify.Test:
		s = "test message"
	case notify.Ban, notify.Repeat:
		s = "ban"
	case notify.Unban:
		s = "ban lifted"
	case notify.AttackBegan:
		s = "under attack"
	case notify.AttackEnded:
		s = "attack over"
	case notify.Login:
		s = "login from a new place"
	case notify.LoginDoubt:
		s = "doubtful login"
	default:
		if s = raw; s == "" {
			s = "event"
		}
	}
	return s
}

func (english) Digest(n int) string { return count(n, "event") }

func (english) BanLead(b *notify.BanFacts, lifted bool, until string) string {
	switch {
	case lifted:
		return "It is let in again where the rules let it in, and what was counted of it is forgotten."
	case !b.Enforced:
		return "Nothing was blocked: this is a dry run (guard.enforce: no)."
	case b.Until.IsZero():
		return "No packet from it gets to SSH any more, until somebody lifts the ban."
	}
	return "No packet from it gets to SSH until " + until + "."
}

func (english) AttackLead(ended bool) string {
	if ended {
		return "This is what it came to. From now on bans are told of one by one again."
	}
	return "Many sources are being banned. They are told of together, and once more when it is over."
}

func (english) LoginLead(doubt bool) string {
	if doubt {
		return "Somebody got in, and what came before gives reason to doubt who. If you know of it, nothing needs to be done."
	}
	return "This user was never seen to log in from this country or network. If you know of it, nothing needs to be done."
}

func (english) Lead(k notify.Kind) string {
	switch k {
	case notify.Trial:
		return "What is on trial is confirmed by a new login through the new rules. Without one the old state comes back by itself."
	case notify.Drift:
		return "Somebody or something changed sekisho's rules in the kernel. The rules were put back."
	case notify.Conntrack:
		return "When the kernel's connection tracking table is full, new connections are dropped, yours too."
	case notify.Country:
		return "New data on which addresses are in which country does not look right. The last good data stays in force."
	case notify.LeaseStuck:
		return "Somebody's time is over, and the rule that lets them in is still there."
	case notify.GroupFinding:
		return "Something in a security group is not as it should be."
	case notify.GateApproval:
		return "Somebody asks for a door that opens only when another says yes. Nothing is open yet."
	case notify.GateBreakGlass:
		return "Somebody opened a door at once, in an emergency, without the approval that it needs otherwise."
	case notify.GateDisabled:
		return "What they had open ends now, and they can open nothing."
	case notify.Test:
		return "Messages get here. Nothing happened, and nothing needs to be done."
	}
	return ""
}

func (english) Span(from, to string) string {
	if from == to {
		return "At " + from + "."
	}
	return "From " + from + " to " + to + "."
}

func (english) AttackAdvice(ended bool) string {
	if ended {
		return "Nothing needs to be done. Fewer get as far as sshd with firewall.countries, or with exposure: on_request."
	}
	return "Nothing needs to be done: whoever attacks is banned. Fewer get as far as sshd with firewall.countries, or with exposure: on_request."
}

func (english) LoginAdvice() string { return "If it was not them, in this order:" }

func (english) CountOf(k notify.Kind, n int) string {
	return printable.Grouped(n) + " " + english{}.FigureOf(k, n)
}

func (english) FigureOf(k notify.Kind, n int) string {
	switch k {
	case notify.Ban:
		return plural(n, "ban", "bans")
	case notify.Repeat:
		return plural(n, "repeat offender", "repeat offenders")
	case notify.Unban:
		return plural(n, "ban lifted", "bans lifted")
	case notify.AttackBegan:
		return plural(n, "attack begun", "attacks begun")
	case notify.AttackEnded:
		return plural(n, "attack over", "attacks over")
	case notify.Login:
		return plural(n, "login from a new place", "logins from new places")
	case notify.LoginDoubt:
		return plural(n, "doubtful login", "doubtful logins")
	case notify.Trial:
		return plural(n, "step of a trial", "steps of trials")
	case notify.Drift:
		return plural(n, "change by others", "changes by others")
	case notify.Conntrack:
		return plural(n, "conntrack warning", "conntrack warnings")
	case notify.Country:
		return plural(n, "country list refused", "country lists refused")
	case notify.LeaseStuck:
		return plural(n, "stuck rule", "stuck rules")
	case notify.GroupFinding:
		return plural(n, "security group finding", "security group findings")
	case notify.GateApproval:
		return plural(n, "approval wanted", "approvals wanted")
	case notify.GateBreakGlass:
		return plural(n, "broken glass", "broken glasses")
	case notify.GateDisabled:
		return plural(n, "person disabled", "people disabled")
	case notify.Degraded:
		return plural(n, "word on sekisho's health", "words on sekisho's health")
	case notify.Report:
		return plural(n, "report", "reports")
	case notify.Test:
		return plural(n, "test", "tests")
	}
	return plural(n, "event", "events")
}

func (english) OthersOf(n int) string     { return count(n, "more event") }
func (english) FigureOthers(n int) string { return plural(n, "more event", "more events") }

func (english) Level(l notify.Level) string {
	switch l {
	case notify.Alarm:
		return "Alarm"
	case notify.Warning:
		return "Warning"
	}
	return "For your information"
}

func (english) LevelTitle(l notify.Level) string {
	switch l {
	case notify.Alarm:
		return "Alarms"
	case notify.Warning:
		return "Warnings"
	}
	return "For your information"
}

func (english) BansTitle(l notify.Level) string {
	switch l {
	case notify.Alarm:
		return "Bans (alarm)"
	case notify.Warning:
		return "Bans (warning)"
	}
	return "Bans"
}

func (english) AndMore(n int) string { return "and " + printable.Grouped(n) + " more" }
func (english) NotShown(n int) string {
	return count(n, "more event") + plural(n, " is", " are") + " counted here, but not shown."
}
func (english) More() string { return "And more" }

func (english) Who() string     { return "Who" }
func (english) What() string    { return "What happened" }
func (english) Why() string     { return "Why it is in doubt" }
func (english) Log() string     { return "The log" }
func (english) Sources() string { return "From where" }
func (english) Do() string      { return "What you can do" }

func (english) LabelAddress() string { return "Address" }
func (english) LabelReverse() string { return "Name in DNS" }
func (english) LabelOwner() string   { return "Owner" }
func (english) LabelNetwork() string { return "Network" }
func (english) LabelAS() string      { return "AS" }
func (english) LabelCountry() string { return "Country" }
func (english) LabelCC() string      { return "CC" }
func (english) LabelAbuse() string   { return "Complaints to" }
func (english) LabelSource() string  { return "According to" }
func (english) LabelCause() string   { return "Cause" }
func (english) LabelAttempts(cause string) string {
	if cause == "escalation" {
		return "Banned in it"
	}
	return "Attempts"
}
func (english) LabelTries() string          { return "Tries" }
func (english) LabelNames() string          { return "Names tried" }
func (english) LabelKinds() string          { return "Kinds" }
func (english) LabelPlaces() string         { return "Countries" }
func (english) LabelFrom() string           { return "Banned" }
func (english) LabelUntil() string          { return "Until" }
func (english) LabelCount() string          { return "Bans so far" }
func (english) LabelNth() string            { return "Ban" }
func (english) LabelReason() string         { return "Reason" }
func (english) LabelBy() string             { return "By" }
func (english) LabelLifted() string         { return "Lifted" }
func (english) LabelLiftedBy() string       { return "Lifted by" }
func (english) LabelBegan() string          { return "Began" }
func (english) LabelEnded() string          { return "Ended" }
func (english) LabelLasted() string         { return "from first to last" }
func (english) LabelUser() string           { return "User" }
func (english) LabelTime() string           { return "Time" }
func (english) LabelMethod() string         { return "Method" }
func (english) LabelBefore() string         { return "Seen before" }
func (english) LabelHost() string           { return "Host" }
func (english) FigureBans(n int) string     { return plural(n, "ban", "bans") }
func (english) FigureAttempts(n int) string { return plural(n, "attempt", "attempts") }

func (english) DoUnban() string      { return "Lift the ban:" }
func (english) DoBanAgain() string   { return "Ban it again:" }
func (english) DoWhy() string        { return "See all that is known of it:" }
func (english) DoBans() string       { return "See the bans in force:" }
func (english) DoStatus() string     { return "See how the host stands:" }
func (english) DoCountry() string    { return "See the country data:" }
func (english) DoLeases() string     { return "See who is let in for a while:" }
func (english) DoReap() string       { return "Take away what is past its end:" }
func (english) DoWho() string        { return "See who gets in, and by which rule:" }
func (english) DoPlanGroups() string { return "See what would be put right:" }
func (english) DoJournal() string    { return "Read sekisho's own log:" }
func (english) DoWhyLogin() string   { return "See all that is known of the address:" }
func (english) DoBanLogin() string {
	return "Ban the address for a day, though somebody is logged in from there:"
}
func (english) DoEndSessions() string { return "End all of the user's sessions:" }
func (english) DoLock() string        { return "Lock the account, whatever the key or password:" }
func (english) DoUnlock() string      { return "Unlock it when all is well:" }
func (english) DoKeys() string        { return "Look for keys that should not be there:" }

func (english) Foot(host, at string) string {
	s := "sekisho"
	if host != "" {
		s += " on " + host
	}
	if at != "-" {
		s += ", " + at
	}
	return s
}
