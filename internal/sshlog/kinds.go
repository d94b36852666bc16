package sshlog

// KindInfo documents a kind: docs/kinds.md is made of these.
type KindInfo struct {
	Kind    Kind
	Meaning string
	Counts  string // in which modes, and how: what package guard does with it
	Samples []Sample
}

// Sample is a message as OpenSSH writes it, without its envelope.
type Sample struct {
	Versions string // of OpenSSH portable; "7.4-" goes on to this day
	Message  string
}

const (
	countsAlways  = "every mode, 1"
	countsNever   = "never"
	countsClose   = "`ddos`, `aggressive`: 1 a connection, if nothing else of it counts"
	countsInvalid = "every mode, 1; the lines that follow for the same attempt add nothing"
	countsLast    = "every mode, 1 if nothing else of the connection counts"
)

// Kinds returns every kind that Parse can find, with samples, in the order of
// the constants.
func Kinds() []KindInfo {
	return []KindInfo{
		{Unknown, "not a message we know, and it holds something like an address: shown, never guessed at", countsNever, []Sample{
			{"", "error: a message of tomorrow from 203.0.113.9 port 40022"},
		}},
		{Connection, "a client has connected (LogLevel VERBOSE)", countsNever, []Sample{
			{"7.4-", "Connection from 203.0.113.9 port 40022 on 192.0.2.1 port 22"},
			{"-6.3", "Connection from 203.0.113.9 port 40022"},
			{"7.7-", `Connection from 203.0.113.9 port 40022 on 192.0.2.1 port 22 rdomain ""`},
		}},
		{Accepted, "a login", "never; takes back what its user's failures of the same connection have counted", []Sample{
			{"7.4-", "Accepted password for hanako from 203.0.113.9 port 40022 ssh2"},
			{"7.4-", "Accepted publickey for hanako from 203.0.113.9 port 40022 ssh2: ED25519 SHA256:uRqtCq2RyMnM9Vd0xwGwRBqh0VVTNmVLSOFS6mzWrEo"},
			{"7.4-", "Accepted publickey for hanako from 2001:db8::9 port 40022 ssh2: ED25519-CERT SHA256:uRqtCq2RyMnM9Vd0xwGwRBqh0VVTNmVLSOFS6mzWrEo ID laptop (serial 7) CA ED25519 SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"},
			{"7.4-", "Accepted keyboard-interactive/pam for hanako from fe80::1%eth0 port 40022 ssh2"},
			{"7.4-", "Accepted gssapi-with-mic for hanako from 203.0.113.9 port 40022 ssh2: hanako@EXAMPLE.COM"},
		}},
		{Failed, "a login that failed; the word is failed_METHOD", "every mode, 1, less what this attempt has counted before; a public key or `none` of a user who exists is no attempt by itself", []Sample{
			{"7.4-", "Failed password for root from 203.0.113.9 port 40022 ssh2"},
			{"7.4-", "Failed password for invalid user admin from 203.0.113.9 port 40022 ssh2"},
			{"7.4-", "Failed none for invalid user  from 203.0.113.9 port 40022 ssh2"},
			{"7.4-", "Failed keyboard-interactive/pam for root from 203.0.113.9 port 40022 ssh2"},
			{"7.4-", "Failed publickey for hanako from 203.0.113.9 port 40022 ssh2: RSA SHA256:uRqtCq2RyMnM9Vd0xwGwRBqh0VVTNmVLSOFS6mzWrEo"},
			{"7.4-", "Failed hostbased for hanako from 203.0.113.9 port 40022 ssh2"},
			{"10.4-", "Failed gssapi-with-mic for invalid user hanako from 203.0.113.9 port 40022 ssh2"},
			{"", "message repeated 2 times: [ Failed password for root from 203.0.113.9 port 40022 ssh2]"},
		}},
		{Postponed, "a login half way (LogLevel VERBOSE)", countsNever, []Sample{
			{"7.4-", "Postponed keyboard-interactive for invalid user admin from 203.0.113.9 port 40022 ssh2 [preauth]"},
			{"7.4-", "Partial publickey for hanako from 203.0.113.9 port 40022 ssh2: ED25519 SHA256:uRqtCq2RyMnM9Vd0xwGwRBqh0VVTNmVLSOFS6mzWrEo"},
		}},
		{InvalidUser, "a user who does not exist", countsInvalid, []Sample{
			{"7.4-", "Invalid user admin from 203.0.113.9 port 40022"},
			{"-7.1", "Invalid user admin from 203.0.113.9"},
			{"-7.4", "input_userauth_request: invalid user admin [preauth]"},
		}},
		{PAMFailure, "a PAM module refuses a password; sshd's own line follows", "with the line that follows; every mode, 1, if none does and no login", []Sample{
			{"", "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.9  user=root"},
			{"", "pam_sss(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.9 user=hanako"},
			{"", "authentication failure; logname= uid=0 euid=0 tty=NODEVssh ruser= rhost=203.0.113.9 "},
		}},
		{PAMMoreFailures, "PAM sums up failures that have been logged", countsNever, []Sample{
			{"", "PAM 2 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.9  user=root"},
			{"", "PAM 1 more authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.9 "},
		}},
		{PAMError, "keyboard-interactive failed", "every mode, 1, one with the Failed line of the same attempt", []Sample{
			{"7.4-", "error: PAM: Authentication failure for illegal user admin from 203.0.113.9"},
			{"7.4-", "error: PAM: Authentication failure for root from host.example.net"},
			{"", "error: PAM: authentication error for illegal user admin from 203.0.113.9 via 192.0.2.1"},
			{"7.4-", "error: PAM: User not known to the underlying authentication module for illegal user admin from 203.0.113.9"},
		}},
		{PAMUserUnknown, "names nobody; a line of its connection", countsNever, []Sample{
			{"", "pam_unix(sshd:auth): check pass; user unknown"},
		}},
		{MaxAttempts, "MaxAuthTries reached", countsLast, []Sample{
			{"7.4-", "error: maximum authentication attempts exceeded for invalid user admin from 203.0.113.9 port 40022 ssh2 [preauth]"},
		}},
		{TooManyFailures, "MaxAuthTries reached, said to the client", countsLast, []Sample{
			{"7.5-", "Disconnecting authenticating user root 203.0.113.9 port 40022: Too many authentication failures [preauth]"},
			{"-7.4", "Disconnecting: Too many authentication failures [preauth]"},
			{"-6.9", "Disconnecting: Too many authentication failures for root [preauth]"},
		}},
		{RootRefused, "PermitRootLogin says no", countsInvalid, []Sample{
			{"7.4-", "ROOT LOGIN REFUSED FROM 203.0.113.9 port 40022"},
		}},
		{NotAllowed, "a user who exists and may not log in", countsInvalid, []Sample{
			{"7.4-", "User root from 203.0.113.9 not allowed because not listed in AllowUsers"},
			{"7.4-", "User root from host.example.net not allowed because listed in DenyUsers"},
			{"7.4-", "User hanako from 203.0.113.9 not allowed because not in any group"},
			{"7.4-", "User hanako from 203.0.113.9 not allowed because a group is listed in DenyGroups"},
			{"7.4-", "User hanako from 203.0.113.9 not allowed because none of user's groups are listed in AllowGroups"},
			{"7.4-", "User hanako not allowed because account is locked"},
			{"7.4-", "User hanako not allowed because shell /bin/none does not exist"},
			{"7.4-", "fatal: Access denied for user hanako by PAM account configuration [preauth]"},
			{"9.9-", "administratively prohibited connection for invalid user admin from 203.0.113.9 port 40022"},
		}},
		{ChangeOfUser, "a client that tries several names in one connection", countsLast, []Sample{
			{"7.5-", "Disconnecting invalid user admin 203.0.113.9 port 40022: Change of username or service not allowed: (admin,ssh-connection) -> (root,ssh-connection) [preauth]"},
			{"-7.4", "Disconnecting: Change of username or service not allowed: (admin,ssh-connection) -> (root,ssh-connection) [preauth]"},
		}},
		{Disconnecting, "sshd ends the connection for another reason", countsClose, []Sample{
			{"7.5-", "Disconnecting 203.0.113.9 port 40022: bad service request ssh-none [preauth]"},
			{"9.6-", "Disconnecting 203.0.113.9 port 40022: strict KEX violation: KEXINIT was not the first packet [preauth]"},
			{"7.5-", "Disconnecting invalid user admin 203.0.113.9 port 40022: no authentication methods enabled [preauth]"},
			{"-7.4", "Disconnecting: Packet corrupt [preauth]"},
		}},
		{Closed, "the client closes", countsClose + "; never after a login", []Sample{
			{"7.4-", "Connection closed by 203.0.113.9 port 40022 [preauth]"},
			{"7.4-", "Connection closed by 203.0.113.9 port 40022"},
			{"7.5-", "Connection closed by authenticating user root 203.0.113.9 port 40022 [preauth]"},
			{"7.5-", "Connection closed by invalid user admin 203.0.113.9 port 40022 [preauth]"},
			{"-7.1", "Connection closed by 203.0.113.9 [preauth]"},
			{"7.4-", "Connection closed by UNKNOWN port 65535 [preauth]"},
		}},
		{Reset, "the client resets", countsClose + "; never after a login", []Sample{
			{"7.4-", "Connection reset by 203.0.113.9 port 40022 [preauth]"},
			{"7.5-", "Connection reset by invalid user admin 203.0.113.9 port 40022 [preauth]"},
		}},
		{Disconnected, "the end of a client that has said that it leaves", countsClose + "; with a name also `extra`; never after a login", []Sample{
			{"7.4-", "Disconnected from 203.0.113.9 port 40022 [preauth]"},
			{"7.5-", "Disconnected from authenticating user root 203.0.113.9 port 40022 [preauth]"},
			{"7.5-", "Disconnected from user hanako 203.0.113.9 port 40022"},
		}},
		{ReceivedDisconnect, "the client says that it leaves; the text is its own", countsClose + "; never after a login", []Sample{
			{"7.4-", "Received disconnect from 203.0.113.9 port 40022:11: Bye Bye [preauth]"},
			{"7.4-", "Received disconnect from 203.0.113.9 port 40022:11: disconnected by user"},
			{"-7.1", "Received disconnect from 203.0.113.9: 11: Bye Bye [preauth]"},
		}},
		{AuthFailDisconnect, "the client says that its ways to log in have failed", "code 3: every mode; code 14: `extra`, `aggressive`; 1 if nothing else of the connection counts", []Sample{
			{"7.4-", "error: Received disconnect from 203.0.113.9 port 40022:3: com.jcraft.jsch.JSchException: Auth fail [preauth]"},
			{"7.4-", "error: Received disconnect from 203.0.113.9 port 40022:14: No supported authentication methods available [preauth]"},
		}},
		{SessionOpened, "a session begins", countsNever, []Sample{
			{"", "pam_unix(sshd:session): session opened for user hanako(uid=1000) by hanako(uid=0)"},
			{"7.4-", "Starting session: shell on pts/0 for hanako from 203.0.113.9 port 40022 id 0"},
		}},
		{SessionClosed, "a session ends", countsNever, []Sample{
			{"", "pam_unix(sshd:session): session closed for user hanako"},
			{"7.4-", "Close session: user hanako from 203.0.113.9 port 40022 id 0"},
		}},
		{NoIdentification, "connects and says nothing", countsClose, []Sample{
			{"7.4-7.9", "Did not receive identification string from 203.0.113.9 port 40022"},
			{"-7.1", "Did not receive identification string from 203.0.113.9"},
			{"7.4-7.9", "Could not write ident string to 203.0.113.9 port 40022"},
		}},
		{BadIdentification, "speaks something that is not SSH, or is a known scanner", countsClose, []Sample{
			{"7.4-7.9", "Bad protocol version identification 'GET / HTTP/1.1' from 203.0.113.9 port 40022"},
			{"8.0-", `error: kex_exchange_identification: client sent invalid protocol identifier "GET / HTTP/1.1"`},
			{"8.0-", "error: kex_exchange_identification: banner line contains invalid characters"},
			{"8.0-", "error: Bad remote protocol version identification: 'SSH-x'"},
			{"8.3-", "banner exchange: Connection from 203.0.113.9 port 40022: invalid format"},
			{"7.4-7.9", "Protocol major versions differ for 203.0.113.9 port 40022: SSH-2.0-OpenSSH_7.4 vs. SSH-1.5-x"},
			{"8.0-", "error: Protocol major versions differ: 2 vs. 1"},
			{"7.4-", "probed from 203.0.113.9 port 40022 with SSH-1.0-SSH_Version_Mapper.  Don't panic."},
			{"7.4-", "scanned from 203.0.113.9 port 40022 with SSH-2.0-SSH_Version_Mapper.  Don't panic."},
		}},
		{KexClosed, "closes before keys are exchanged; names no peer, its connection does", countsClose, []Sample{
			{"8.0-", "error: kex_exchange_identification: Connection closed by remote host"},
			{"8.0-", "error: kex_exchange_identification: read: Connection reset by peer"},
			{"-7.3", "fatal: Read from socket failed: Connection reset by peer [preauth]"},
		}},
		{NegotiationFailed, "no common algorithm", "`extra`, `aggressive`: 1 a connection, if nothing else of it counts", []Sample{
			{"7.4-", "Unable to negotiate with 203.0.113.9 port 40022: no matching key exchange method found. Their offer: diffie-hellman-group1-sha1 [preauth]"},
			{"7.4-", "fatal: Unable to negotiate with 203.0.113.9 port 40022: no matching host key type found. Their offer: ssh-dss [preauth]"},
			{"-6.9", "fatal: Unable to negotiate a key exchange method [preauth]"},
			{"-6.9", "fatal: no matching cipher found: client 3des-cbc server aes128-ctr [preauth]"},
		}},
		{PacketError, "breaks the protocol", countsClose, []Sample{
			{"7.4-", "ssh_dispatch_run_fatal: Connection from 203.0.113.9 port 40022: message authentication code incorrect [preauth]"},
			{"7.5-", "fatal: userauth_pubkey: Connection from invalid user admin 203.0.113.9 port 40022: incomplete message [preauth]"},
			{"7.4-", "Bad packet length 1349676916. [preauth]"},
			{"7.4-9.5", "error: kex protocol error: type 30 seq 1 [preauth]"},
			{"9.6-", "error: kex_protocol_error: type 30 seq 1 [preauth]"},
			{"7.4-10.0", "dispatch_protocol_error: type 20 seq 3 [preauth]"},
			{"8.5-", "fatal: Username too long from 203.0.113.9 port 40022"},
			{"7.4-", "fatal: Connection from 203.0.113.9 port 40022 with IP opts: 07.04.00.00"},
		}},
		{Timeout, "LoginGraceTime is over; since 9.8 the listener says so, of the connection whose pid it names", countsClose, []Sample{
			{"7.4-9.7", "fatal: Timeout before authentication for 203.0.113.9 port 40022"},
			{"9.8-", "Timeout before authentication for connection from 203.0.113.9 to 192.0.2.1, pid = 4711"},
			{"7.4-", "Connection from authenticating user root 203.0.113.9 port 40022 timed out [preauth]"},
		}},
		{RefusedByWrappers, "hosts.deny (a patch of Debian's and Red Hat's)", countsAlways, []Sample{
			{"", "refused connect from host.example.net (203.0.113.9)"},
			{"", "refused connect from 203.0.113.9"},
		}},
		{ReverseMapping, "the name server contradicts itself", countsNever, []Sample{
			{"7.4-", "reverse mapping checking getaddrinfo for host.example.net [203.0.113.9] failed."},
			{"-7.3", "reverse mapping checking getaddrinfo for host.example.net [203.0.113.9] failed - POSSIBLE BREAK-IN ATTEMPT!"},
			{"7.4-", "Address 203.0.113.9 maps to host.example.net, but this does not map back to the address."},
			{"7.4-", `Nasty PTR record "192.0.2.7" is set up for 203.0.113.9, ignoring`},
		}},
		{Penalty, "sshd refuses the peer by itself for a while", "never: evidence", []Sample{
			{"9.8-", "srclimit_penalise: 203.0.113.9/32: activating ipv4 penalty of 16 seconds for penalty: failed authentication"},
			{"10.1-", "srclimit_penalise: ipv6: new 2001:db8::/64 active penalty of 90.000 seconds for penalty: caused crash"},
		}},
		{DropPenalty, "refused under a penalty", "never: evidence", []Sample{
			{"9.8-", "drop connection #0 from [203.0.113.9]:40022 on [192.0.2.1]:22 penalty: failed authentication"},
			{"9.8-", "drop connection #3 from [2001:db8::9]:40022 on [2001:db8::1]:22 too many penalised addresses"},
		}},
		{DropMaxStartups, "refused under MaxStartups or PerSourceMaxStartups", "never: evidence", []Sample{
			{"7.4-9.7", "drop connection #10 from [203.0.113.9]:40022 on [192.0.2.1]:22 past MaxStartups"},
			{"10.0-", "drop connection #10 from [203.0.113.9]:40022 on [192.0.2.1]:22 Maxstartups"},
		}},
		{Crash, "the process of a connection died; the listener says so", "never: evidence", []Sample{
			{"9.8-", "Session process 4711 unpriv child crash for connection from 203.0.113.9 to 192.0.2.1"},
			{"9.8-", "error: session process 4711 for connection from 203.0.113.9 to 192.0.2.1 killed by signal 11 (early)"},
		}},
		{Note, "speaks of a peer or a connection, and is no attempt", countsNever, []Sample{
			{"7.4-", "User child is on pid 4712"},
			{"7.4-", "Closing connection to 203.0.113.9 port 40022"},
			{"7.4-", "Read error from remote host 203.0.113.9 port 40022: Connection reset by peer"},
			{"7.5-", "fatal: ssh_packet_write_poll: Connection from user hanako 203.0.113.9 port 40022: Broken pipe"},
			{"7.7-", "Timeout, client not responding from user hanako 203.0.113.9 port 40022"},
			{"9.2-", "terminating inactive connection from user hanako 203.0.113.9 port 40022"},
			{"8.0-", "error: Connection from user hanako 203.0.113.9 port 40022: refusing non-sftp session"},
			{"7.4-", "Finished discarding for 203.0.113.9 port 40022"},
			{"8.1-", "Received request from 203.0.113.9 port 40022 to connect to host 192.0.2.7 port 25, but the request was denied."},
			{"7.4-", "refused local port forward: originator 127.0.0.1 port 5, target 192.0.2.7 port 25"},
			{"7.7-", "/home/hanako/.ssh/authorized_keys:1: Authentication tried for hanako with correct key but not from a permitted host (host=host.example.net, ip=203.0.113.9, required=192.0.2.0/24)."},
			{"7.4-7.6", "Authentication tried for hanako with valid certificate but not from a permitted host (ip=203.0.113.9)."},
			{"8.2-", "error: public key ED25519-SK SHA256:uRqtCq2RyMnM9Vd0xwGwRBqh0VVTNmVLSOFS6mzWrEo signature for hanako from 203.0.113.9 port 40022 rejected: user presence (authenticator touch) requirement not met "},
			{"7.4-", "userauth_hostbased mismatch: client sends host.example.net, but we resolve 203.0.113.9 to 203.0.113.9"},
			{"9.8-", "srclimit_penalise: ipv4: new 203.0.113.9/32 deferred penalty of 5.000 seconds for penalty: failed authentication"},
			{"", "pam_sss(sshd:auth): authentication success; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.9 user=hanako"},
			{"", `WARNING: connection from 203.0.113.9 port 40022 is not using a post-quantum key exchange algorithm: "curve25519-sha256" [preauth]`},
			{"", "pam_access(sshd:account): access denied for user `hanako' from `203.0.113.9'"},
		}},
	}
}
