package cli

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// ownPeer is where whoever runs this command is logged in from by SSH, through
// sudo and su too; invalid where that cannot be told.
func ownPeer() netip.Addr {
	if a := peerIn(os.Getenv("SSH_CONNECTION")); a.IsValid() {
		return a
	}
	// sudo takes the variable away; the shell before it has it still.
	for pid, steps := os.Getppid(), 0; pid > 1 && steps < 32; steps++ {
		if environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err == nil {
			for entry := range bytes.SplitSeq(environ, []byte{0}) {
				if value, ok := bytes.CutPrefix(entry, []byte("SSH_CONNECTION=")); ok {
					if a := peerIn(string(value)); a.IsValid() {
						return a
					}
				}
			}
		}
		pid = parentOf(pid)
	}
	return netip.Addr{}
}

// peerIn reads the value of SSH_CONNECTION: peer, its port, our address, our port
// (ssh(1)).
func peerIn(value string) netip.Addr {
	first, _, _ := strings.Cut(value, " ")
	a, err := netip.ParseAddr(first)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// parentOf is the parent of a process, 0 where it cannot be told.
func parentOf(pid int) (parent int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold anything; after the last one: state, parent.
	_, _ = fmt.Sscanf(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " %c %d", new(rune), &parent)
	return parent
}
