package daemon

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxGroups is the kernel's NGROUPS_MAX, 65,536, cut to what accounts have.
const maxGroups = 1024

// peerGroups are the supplementary groups of a Unix socket's peer
// (SO_PEERGROUPS, Linux 4.13); none where the kernel does not say.
func peerGroups(fd int) []uint32 {
	var raw [maxGroups * 4]byte
	size := uint32(len(raw))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&raw[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || int(size) > len(raw) {
		return nil
	}
	groups := make([]uint32, 0, size/4)
	for i := 0; i+4 <= int(size); i += 4 {
		groups = append(groups, binary.NativeEndian.Uint32(raw[i:]))
	}
	return groups
}
