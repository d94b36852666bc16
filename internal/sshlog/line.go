package sshlog

// Program says which of OpenSSH's programs wrote a line. Until 9.7 all of a
// connection is logged by "sshd"; 9.8 moved what follows the accept to
// "sshd-session" and 10.0 what precedes authentication to "sshd-auth".
type Program uint8

// The programs of OpenSSH's server.
const (
	ProgramSSHD Program = iota + 1
	ProgramSession
	ProgramAuth
)

// Line is one log entry that an sshd program wrote, its envelope taken off.
// Host and Message alias the reader's buffer: they hold until the next read.
type Line struct {
	Time    int64   // Unix nanoseconds; 0 where the log has no time
	Number  int64   // 1-based number of the line in its file; 0 where unknown
	PID     int32   // 0 where the log has none
	Program Program // never 0 in a decoded line
	Bare    bool    // no envelope at all: what sshd -E and -e write; forgeable, see package logsource
	Host    []byte  // the host field, often empty or the machine's own name
	Message []byte  // what sshd said, without its tag
}
