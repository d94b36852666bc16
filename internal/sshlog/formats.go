package sshlog

// shape is how a message goes on after its first words, and so which matcher
// reads it.
type shape uint8

const (
	wordsOnly            shape = iota // nothing follows
	wordsThenText                     // text that names no peer
	wordsThenInvalidUser              // U
	idAtEnd                           // [PREAMBLE user U ]A port P
	idThenText                        // [PREAMBLE user U ]A port P: text
	peerThenText                      // A port P[ text]
	peerAtEnd                         // text from A port P
	userFromAtEnd                     // [invalid user ]U from A port P
	invalidUser                       // U from A port P
	userFromThenSSH2                  // [invalid user ]U from A port P ssh2
	authResult                        // METHOD for [invalid user ]U from A port P ssh2[: extra]
	connectionFrom
	receivedDisconnect
	disconnectingID
	disconnectingText
	notAllowed
	permittedHost
	permittedHostAt
	rejectedKey
	refusedConnect
	addrThenText
	reverseName
	nastyName
	hostbasedMismatch
	pamModule
	pamText
	pamMore
	pamSession
	pamWords
	timeoutBeforeAuth
	childProcess
	childPID
	penalty
	dropConnection
	sessionStart
	sessionClose
	bannerFailure
	brokenSocket
	deniedUser
	hpnPeer
)

// format is one way in which a message begins.
type format struct {
	prefix string
	kind   Kind // a matcher may find a nearer one
	shape  shape
}

// formatsFor returns the formats that begin with c, the frequent ones first and
// a longer prefix before its own beginning. "error: ", "fatal: " and [preauth]
// are off by then. Kind None: known to name no peer, whatever it holds.
func formatsFor(c byte) []format {
	switch c {
	case 'A':
		return formatsA[:]
	case 'B':
		return formatsB[:]
	case 'C':
		return formatsC[:]
	case 'D':
		return formatsD[:]
	case 'F':
		return formatsF[:]
	case 'I':
		return formatsI[:]
	case 'P':
		return formatsP[:]
	case 'R':
		return formatsR[:]
	case 'S':
		return formatsS[:]
	case 'T':
		return formatsT[:]
	case 'U':
		return formatsU[:]
	case 'p':
		return formatsSmallP[:]
	case 'r':
		return formatsSmallR[:]
	case 's':
		return formatsSmallS[:]
	}
	return formatsOther[:]
}

// Never written to.
var (
	formatsA = [...]format{
		{"Accepted key ", Note, wordsThenText},
		{"Accepted certificate ID ", Note, wordsThenText},
		{"Accepted ", Accepted, authResult},
		{"Access denied for user ", NotAllowed, deniedUser},
		{"Address ", ReverseMapping, addrThenText},
		{"Authentication tried for ", Note, permittedHost},
	}
	formatsB = [...]format{
		{"Bad packet length ", PacketError, wordsThenText},
		{"Bad protocol version identification '", BadIdentification, peerAtEnd},
		{"Bad remote protocol version identification: ", BadIdentification, wordsThenText},
		{"Bind to port ", None, wordsThenText},
	}
	formatsC = [...]format{
		{"Connection closed by ", Closed, idAtEnd},
		{"Connection from ", Connection, connectionFrom},
		{"Connection reset by ", Reset, idAtEnd},
		{"Close session: user ", SessionClosed, sessionClose},
		{"Closing connection to ", Note, peerThenText},
		{"Corrupted MAC on input.", PacketError, wordsOnly},
		{"Corrupted check bytes on input", PacketError, wordsThenText},
		{"Could not write ident string to ", NoIdentification, peerThenText},
		{"Connection timed out during banner exchange", KexClosed, wordsOnly},
	}
	formatsD = [...]format{
		{"Disconnected from ", Disconnected, idAtEnd},
		{"Did not receive identification string from ", NoIdentification, peerThenText},
		{"Disconnecting: ", Disconnecting, disconnectingText},
		{"Disconnecting ", Disconnecting, disconnectingID},
	}
	formatsF = [...]format{
		{"Failed ", Failed, authResult},
		{"Finished discarding for ", Note, peerThenText},
	}
	formatsI = [...]format{
		{"Invalid user ", InvalidUser, invalidUser},
		{"Illegal user ", InvalidUser, invalidUser},
	}
	formatsP = [...]format{
		{"PAM: ", PAMError, pamText},
		{"PAM ", PAMMoreFailures, pamMore},
		{"Postponed ", Postponed, authResult},
		{"Partial ", Postponed, authResult},
		{"Protocol major versions differ for ", BadIdentification, peerThenText},
		{"Protocol major versions differ: ", BadIdentification, wordsThenText},
	}
	formatsR = [...]format{
		{"Received disconnect from ", ReceivedDisconnect, receivedDisconnect},
		{"Received request from ", Note, peerThenText},
		{"Received request to connect to ", Note, wordsThenText},
		{"Received signal ", None, wordsThenText},
		{"Read error from remote host ", Note, peerThenText},
		{"Read from socket failed: ", KexClosed, brokenSocket},
		{"ROOT LOGIN REFUSED FROM ", RootRefused, peerThenText},
	}
	formatsS = [...]format{
		{"Starting session: ", SessionOpened, sessionStart},
		{"Server listening on ", None, wordsThenText},
		{"Session process ", Crash, childProcess},
		{"SSH: Server;", Note, hpnPeer},
	}
	formatsT = [...]format{
		{"Timeout before authentication for ", Timeout, timeoutBeforeAuth},
		{"Timeout, client not responding from ", Note, idAtEnd},
		{"Timeout, client not responding.", Note, wordsOnly},
		{"Transferred: ", Note, wordsThenText},
	}
	formatsU = [...]format{
		{"Unable to negotiate with ", NegotiationFailed, idThenText},
		{"Unable to negotiate a key exchange method", NegotiationFailed, wordsOnly},
		{"User child is on pid ", Note, childPID},
		{"User ", NotAllowed, notAllowed},
		{"Username too long from ", PacketError, peerThenText},
	}
	formatsSmallP = [...]format{
		{"pam_", None, pamModule},
		{"padding error: ", PacketError, wordsThenText},
		{"probed from ", BadIdentification, peerThenText},
		{"public key ", Note, rejectedKey},
	}
	formatsSmallR = [...]format{
		{"reverse mapping checking getaddrinfo for ", ReverseMapping, reverseName},
		{"refused connect from ", RefusedByWrappers, refusedConnect},
		{"refused local port forward: ", Note, wordsThenText},
		{"refused streamlocal port forward: ", Note, wordsThenText},
	}
	formatsSmallS = [...]format{
		{"srclimit_penalise: ", Penalty, penalty},
		{"scanned from ", BadIdentification, peerThenText},
		{"session opened for user ", SessionOpened, pamSession},
		{"session closed for user ", SessionClosed, pamSession},
		{"session process ", Crash, childProcess},
		{"subsystem request for ", Note, wordsThenText},
		{"socket ", None, wordsThenText},
	}
	formatsOther = [...]format{
		{"kex_exchange_identification: ", KexClosed, bannerFailure},
		{"drop connection #", DropPenalty, dropConnection},
		{"input_userauth_request: invalid user ", InvalidUser, wordsThenInvalidUser},
		{"maximum authentication attempts exceeded for ", MaxAttempts, userFromThenSSH2},
		{"administratively prohibited connection for ", NotAllowed, userFromAtEnd},
		{"Nasty PTR record \"", ReverseMapping, nastyName},
		{"userauth_hostbased mismatch: client sends ", Note, hostbasedMismatch},
		{"terminating inactive connection from ", Note, idAtEnd},
		{"kex protocol error: ", PacketError, wordsThenText},
		{"kex_protocol_error: ", PacketError, wordsThenText},
		{"dispatch_protocol_error: ", PacketError, wordsThenText},
		{"WARNING: connection from ", Note, peerThenText},
		{"no matching ", NegotiationFailed, wordsThenText},
		{"no hostkey alg", NegotiationFailed, wordsOnly},
		{"Write failed: ", KexClosed, brokenSocket},
		{"connect_to ", Note, wordsThenText},
		{"connect to ", Note, wordsThenText},
		{"client ", Note, wordsThenText},
		{"bind ", None, wordsThenText},
		{"listen ", None, wordsThenText},
		{"debug1: ", None, wordsThenText},
		{"debug2: ", None, wordsThenText},
		{"debug3: ", None, wordsThenText},
		{"/", Note, permittedHostAt}, // the key's file and line
		{"(pam_unix) ", None, pamWords},
		{"", None, pamWords}, // the oldest dress, "sshd(pam_unix)[123]: authentication failure; ..."
	}
)
