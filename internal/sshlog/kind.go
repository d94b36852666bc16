package sshlog

// Kind is what a message says happened. The zero value, None, is a message
// that says nothing of a peer.
type Kind uint8

// The kinds. String gives their words; Kinds and docs/kinds.md samples and versions.
const (
	None    Kind = iota
	Unknown      // sshd's, names or may name a peer, but no message we know: counted and shown, never guessed

	Connection // "Connection from A port P on L port Q"
	Accepted   // "Accepted METHOD for U from A port P"
	Failed     // "Failed METHOD for [invalid user] U from A port P"; Method says which
	Postponed  // "Postponed METHOD for ...", "Partial METHOD for ..."
	InvalidUser
	PAMFailure      // "pam_X(sshd:auth): authentication failure; ... rhost=A"
	PAMMoreFailures // "PAM N more authentication failures; ... rhost=A": a checksum of failures already logged
	PAMError        // "error: PAM: Authentication failure for [illegal user] U from A"
	PAMUserUnknown  // "pam_unix(sshd:auth): check pass; user unknown": names no peer
	MaxAttempts     // "maximum authentication attempts exceeded for ..."
	TooManyFailures // "Disconnecting ...: Too many authentication failures"
	RootRefused     // "ROOT LOGIN REFUSED FROM A"
	NotAllowed      // "User U from A not allowed because ..."; locked, expired, shell, PAM account included
	ChangeOfUser    // "Disconnecting ...: Change of username or service not allowed"
	Disconnecting   // "Disconnecting ...: " for any other reason

	Closed             // "Connection closed by ..." (Preauth, User and Invalid tell the rest)
	Reset              // "Connection reset by ..."
	Disconnected       // "Disconnected from ..."
	ReceivedDisconnect // "Received disconnect from A port P:N: text"
	AuthFailDisconnect // the same, code 3 "Auth fail", or 14 "No supported authentication methods available"
	SessionOpened      // "pam_unix(sshd:session): session opened for user U", "Starting session: ..."
	SessionClosed      // "... session closed for user U", "Close session: ..."

	NoIdentification  // "Did not receive identification string from A"
	BadIdentification // "Bad protocol version identification ...", "banner exchange: ... invalid format", "client sent invalid protocol identifier"
	KexClosed         // "kex_exchange_identification: Connection closed by remote host" and its like: names no peer
	NegotiationFailed // "Unable to negotiate with A port P: no matching ... found"
	PacketError       // "ssh_dispatch_run_fatal: Connection from A port P: ...", "Bad packet length", "Corrupted MAC"
	Timeout           // "Timeout before authentication for [connection from] A"
	RefusedByWrappers // "refused connect from HOST (A)"
	ReverseMapping    // "reverse mapping checking ...", "Address A maps to ...": a note, never an attempt
	Penalty           // "srclimit_penalise: ... activating ... penalty": sshd refuses the peer by itself
	DropPenalty       // "drop connection #N from [A]:P ... penalty: ..."
	DropMaxStartups   // "drop connection #N from [A]:P ... MaxStartups" and PerSourceMaxStartups
	Crash             // "Session process N unpriv child crash for connection from A": evidence, never an attempt
	Note              // names a peer or a connection, but is never an attempt
	kinds             // how many there are
)

// Method is how a client tried to authenticate.
type Method uint8

// The methods.
const (
	MethodUnknown Method = iota
	MethodNone
	MethodPassword
	MethodPublickey
	MethodKeyboardInteractive
	MethodHostbased
	MethodGSSAPI
)
