// Package daemon wires the way of an attack: log sources → guard → firewall and
// store, and the control socket beside it. It reads no flags and touches no
// signals: `sekisho run`, the lab and the tests embed the same Daemon.
package daemon
