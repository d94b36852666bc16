package config

import (
	"slices"

	"sekisho/internal/sshlog"
)

// weighable are the kinds that can count as attempts, so that a weight means
// something; docs/kinds.md says when each does.
func weighable() []sshlog.Kind {
	var kinds []sshlog.Kind
	for k := sshlog.Unknown + 1; k.String() != sshlog.Unknown.String(); k++ {
		switch k {
		case sshlog.Connection, sshlog.Accepted, sshlog.Postponed, sshlog.PAMMoreFailures, sshlog.PAMUserUnknown,
			sshlog.SessionOpened, sshlog.SessionClosed, sshlog.ReverseMapping,
			sshlog.Penalty, sshlog.DropPenalty, sshlog.DropMaxStartups, sshlog.Crash, sshlog.Note:
		default:
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// kindNames are the words of the kinds that a weight can be given to.
func kindNames() []string {
	var names []string
	for _, k := range weighable() {
		names = append(names, k.String())
	}
	return names
}

func kindByName(name string) (sshlog.Kind, bool) {
	i := slices.Index(kindNames(), name)
	if i < 0 {
		return sshlog.None, false
	}
	return weighable()[i], true
}
