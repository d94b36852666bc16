package conntrack

import (
	"bytes"
	"cmp"
	"errors"
	"net"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allowances are those of each interface whose driver tells them.
func allowances() ([]Allowance, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	var list []Allowance
	for _, i := range interfaces {
		counters, err := driverCounters(fd, i.Name)
		switch {
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EPERM):
			continue // it has none, went away meanwhile, or does not tell us
		case err != nil:
			return nil, err
		}
		if a, ok := allowanceOf(i.Name, counters); ok {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b Allowance) int { return cmp.Compare(a.Interface, b.Interface) })
	return list, nil
}

// allowanceOf picks the allowance out of a driver's counters; names are those of
// drivers/net/ethernet/amazon/ena/ena_ethtool.c.
func allowanceOf(name string, counters map[string]uint64) (Allowance, bool) {
	exceeded, ok := counters["conntrack_allowance_exceeded"]
	if !ok {
		return Allowance{}, false
	}
	available, known := counters["conntrack_allowance_available"]
	return Allowance{
		Interface:          name,
		ConntrackExceeded:  exceeded,
		ConntrackAvailable: available,
		AvailableKnown:     known,
		BandwidthExceeded:  counters["bw_in_allowance_exceeded"] + counters["bw_out_allowance_exceeded"],
		PacketRateExceeded: counters["pps_allowance_exceeded"],
		LinkLocalExceeded:  counters["linklocal_allowance_exceeded"],
	}, true
}

// linux/ethtool.h: struct ethtool_gstrings is three numbers of 32 bits and names of
// stringSize, struct ethtool_stats two and numbers of 64 bits.
const (
	stringSize     = 32 // ETH_GSTRING_LEN
	stringsHeader  = 12
	statsHeader    = 8
	statisticsSet  = 1 // ETH_SS_STATS
	statisticsMost = 4096
)

// driverCounters are what `ethtool -S` shows. EOPNOTSUPP where there is nothing.
func driverCounters(fd int, name string) (map[string]uint64, error) {
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
	if err != nil {
		return nil, err
	}
	count := int(info.N_stats)
	if count == 0 || count > statisticsMost {
		return nil, unix.EOPNOTSUPP
	}
	// The kernel writes as many as there are by then, whatever we ask for.
	room := 2*count + 64
	names := make([]uint32, (stringsHeader+room*stringSize)/4)
	names[0], names[1], names[2] = unix.ETHTOOL_GSTRINGS, statisticsSet, uint32(count)
	if err := ethtool(fd, name, unsafe.Pointer(unsafe.SliceData(names))); err != nil {
		return nil, err
	}
	values := make([]uint64, statsHeader/8+room)
	header := unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(values))), 2)
	header[0], header[1] = unix.ETHTOOL_GSTATS, uint32(count)
	if err := ethtool(fd, name, unsafe.Pointer(unsafe.SliceData(values))); err != nil {
		return nil, err
	}
	if int(names[2]) != count || int(header[1]) != count {
		return nil, unix.EOPNOTSUPP // they changed meanwhile; the next reading will tell
	}
	text := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(names))), 4*len(names))[stringsHeader:]
	counters := make(map[string]uint64, count)
	for i := range count {
		label, _, _ := bytes.Cut(text[i*stringSize:(i+1)*stringSize], []byte{0})
		counters[string(label)] = values[statsHeader/8+i]
	}
	return counters, nil
}

func ethtool(fd int, name string, data unsafe.Pointer) error {
	request := struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [24 - unsafe.Sizeof(uintptr(0))]byte
	}{data: data}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(data)
	if errno != 0 {
		return errno
	}
	return nil
}
