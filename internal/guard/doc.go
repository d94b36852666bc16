// Package guard turns sshd's events into bans: it joins the lines of a
// connection, counts attempts once, keeps a true sliding window per source and
// decides. It is a pure engine: no I/O, no clock of its own, the time is the
// log's. The daemon and `sekisho explain` feed the same engine.
package guard
