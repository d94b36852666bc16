package gate

// Actions are what an entry of the audit can be of (api.Entry.What), in the order of
// documents. Each word, once there, keeps its meaning.
func Actions() []string {
	return []string{
		"ask",              // somebody asks for what needs approval
		"open",             // somebody asks for what they may open: written before anything is opened
		"open.break_glass", // the same, in an emergency: nobody approved it
		"open.refused",     // somebody asked for what they may not
		"opened",           // it is in force; Rule lets it in, where a group is behind it
		"failed",           // it could not be opened, or not be made longer
		"extend",           // somebody makes it longer
		"shorten",          // the policy allows it for less time since
		"approve", "deny", "withdraw",
		"close",        // somebody ends it
		"expire",       // its time is over, or that of waiting for approval
		"end.disabled", // it ends with its person's being disabled
		"end.policy",   // the policy does not allow it any more
		"stuck",        // it is past its end, and cannot be ended
		"left",         // nor could it be until its rule had ended by its own tags: its account is not in the configuration any more
		"person.add", "person.edit", "person.delete", "person.invite", "person.disable", "person.enable",
		"person.groups", // an identity provider names other groups than before
		"passkey.add", "passkey.delete",
		"session.begin", "session.end",
		"key.unknown", // how many were refused whom nobody knows, in the last minute
		"target.add", "target.edit", "target.delete",
		"host.add", "host.enrol", "host.delete",
	}
}
