package sshlog

import "time"

// DecoderOptions say what a log's lines leave out.
type DecoderOptions struct {
	Location  *time.Location // of time stamps without a zone; nil means time.Local
	Reference time.Time      // the newest time the log can have (its mtime, or now): tells the year of RFC 3164 time stamps; zero means now
	Bare      bool           // accept lines without any envelope, as sshd -E and -e write them
}

// Decoder takes the envelope off log lines. It keeps the year and the last
// time stamp between lines, so one Decoder reads one log, in order; it is not
// safe for concurrent use.
type Decoder struct {
	opts DecoderOptions
}

// NewDecoder returns a Decoder for one log.
func NewDecoder(opts DecoderOptions) *Decoder { return &Decoder{opts: opts} }

// Decode fills l from one raw line without its newline, and reports whether
// one of sshd's programs wrote it. It does not set l.Number.
func (d *Decoder) Decode(raw []byte, l *Line) bool { return false }

// Time reads the time stamp of any program's line.
func (d *Decoder) Time(raw []byte) (unixNano int64, ok bool) { return 0, false }
