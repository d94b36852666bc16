package config

import "sekisho/internal/sshlog"

// kindNames are the kinds that a weight can be given to.
func kindNames() []string {
	var names []string
	for k := sshlog.Unknown + 1; k.String() != sshlog.Unknown.String(); k++ {
		names = append(names, k.String())
	}
	return names
}

func kindByName(name string) (sshlog.Kind, bool) {
	for i, n := range kindNames() {
		if n == name {
			return sshlog.Unknown + 1 + sshlog.Kind(i), true
		}
	}
	return sshlog.None, false
}
