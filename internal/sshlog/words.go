package sshlog

// String is the kind's word: snake_case, stable, what explain and the metrics
// print. See Event.Word for the word of a failed login.
func (k Kind) String() string {
	if k >= kinds {
		return "unknown"
	}
	return kindWords[k]
}

// Never written to.
var kindWords = [kinds]string{
	None:               "none",
	Unknown:            "unknown",
	Connection:         "connection",
	Accepted:           "accepted",
	Failed:             "failed",
	Postponed:          "postponed",
	InvalidUser:        "invalid_user",
	PAMFailure:         "pam_failure",
	PAMMoreFailures:    "pam_more_failures",
	PAMError:           "pam_error",
	PAMUserUnknown:     "pam_user_unknown",
	MaxAttempts:        "max_attempts",
	TooManyFailures:    "too_many_failures",
	RootRefused:        "root_refused",
	NotAllowed:         "not_allowed",
	ChangeOfUser:       "change_of_user",
	Disconnecting:      "disconnecting",
	Closed:             "closed",
	Reset:              "reset",
	Disconnected:       "disconnected",
	ReceivedDisconnect: "received_disconnect",
	AuthFailDisconnect: "auth_fail_disconnect",
	SessionOpened:      "session_opened",
	SessionClosed:      "session_closed",
	NoIdentification:   "no_identification",
	BadIdentification:  "bad_identification",
	KexClosed:          "kex_closed",
	NegotiationFailed:  "negotiation_failed",
	PacketError:        "packet_error",
	Timeout:            "timeout",
	RefusedByWrappers:  "refused_by_wrappers",
	ReverseMapping:     "reverse_mapping",
	Penalty:            "penalty",
	DropPenalty:        "drop_penalty",
	Crash:              "crash",
	DropMaxStartups:    "drop_max_startups",
	Note:               "note",
}

// String is the method's word.
func (m Method) String() string {
	switch m {
	case MethodNone:
		return "none"
	case MethodPassword:
		return "password"
	case MethodPublickey:
		return "publickey"
	case MethodKeyboardInteractive:
		return "keyboard_interactive"
	case MethodHostbased:
		return "hostbased"
	case MethodGSSAPI:
		return "gssapi"
	}
	return "unknown"
}
