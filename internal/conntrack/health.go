package conntrack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Options are ReadHealth's.
type Options struct {
	NetNS int // file descriptor of a network namespace; 0: the caller's
}

// Health is how the connection tracking table of a network namespace does. The
// zero value is no reading.
type Health struct {
	Time  time.Time // of the reading
	InUse bool      // the kernel has connection tracking; otherwise only Allowances holds anything

	Count uint64 // connections in the table
	Max   uint64 // that it holds; 0: no limit
	// Idle is how long an established TCP connection stays in it without a packet.
	Idle time.Duration
	RAM  uint64 // bytes of this machine's memory; 0: unknown

	// Since the namespace was made, over all CPUs.
	Drops         uint64 // packets dropped since no entry could be made for them, as in a full table
	EarlyDrops    uint64 // connections thrown out of a full table in favour of new ones
	InsertsFailed uint64 // packets dropped since their connection, or its answers, had been entered by another; Drops has most of them too

	Allowances []Allowance // Amazon EC2's, of each interface that tells them; sorted by name
}

// Allowance is what EC2 grants a network interface, by the counters of its driver
// (ena). Exceeding means packets queued or dropped outside of this machine.
type Allowance struct {
	Interface          string
	ConntrackExceeded  uint64 // packets dropped since the instance tracks too many connections
	ConntrackAvailable uint64 // connections that could still be tracked, if AvailableKnown
	AvailableKnown     bool   // older drivers do not tell
	BandwidthExceeded  uint64 // packets, in and out
	PacketRateExceeded uint64 // packets
	LinkLocalExceeded  uint64 // packets to DNS, NTP, the metadata service
}

const sysctls = "/proc/sys/net/netfilter/"

// ReadHealth reads the table's figures. Nothing is loaded or changed by it: where
// the kernel has no connection tracking (yet), InUse is false. The statistics need
// CAP_NET_ADMIN or a kernel with CONFIG_NF_CONNTRACK_PROCFS.
func ReadHealth(ctx context.Context, o Options) (Health, error) {
	if err := ctx.Err(); err != nil {
		return Health{}, err
	}
	if o.NetNS == 0 {
		return readHealth()
	}
	type answer struct {
		health Health
		err    error
	}
	c := make(chan answer, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var a answer
		if err := unix.Setns(o.NetNS, unix.CLONE_NEWNET); err != nil {
			a.err = fmt.Errorf("read conntrack's health: enter the network namespace: %w", err)
		} else {
			a.health, a.err = readHealth()
		}
		c <- a
	}()
	a := <-c
	return a.health, a.err
}

func readHealth() (h Health, err error) {
	h.Time = time.Now()
	if err := h.readTable(); err != nil {
		return Health{}, fmt.Errorf("read conntrack's health: %w", err)
	}
	if h.Allowances, err = allowances(); err != nil {
		return Health{}, fmt.Errorf("read EC2's allowances: %w", err)
	}
	return h, nil
}

func (h *Health) readTable() error {
	limit, err := sysctl("nf_conntrack_max")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // asking over netlink would load the module
	}
	if err != nil {
		return err
	}
	h.InUse, h.Max = true, limit
	if h.Count, err = sysctl("nf_conntrack_count"); err != nil {
		return err
	}
	// Not in the namespace of a container, before 5.11.
	if idle, err := sysctl("nf_conntrack_tcp_timeout_established"); err == nil {
		h.Idle = time.Duration(idle) * time.Second
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		h.RAM = uint64(info.Totalram) * uint64(info.Unit)
	}
	asked := h.askStatistics()
	if asked == nil {
		return nil
	}
	b, err := os.ReadFile("/proc/thread-self/net/stat/nf_conntrack")
	if err == nil {
		err = h.readStatistics(b)
	}
	if err != nil {
		return fmt.Errorf("statistics: %w; %w", asked, err)
	}
	return nil
}

func sysctl(name string) (uint64, error) {
	b, err := os.ReadFile(sysctls + name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s%s: %q is not a number", sysctls, name, b)
	}
	return n, nil
}

// Of linux/netfilter/nfnetlink_conntrack.h.
const (
	getStatsCPU       = unix.NFNL_SUBSYS_CTNETLINK<<8 | 4 // IPCTNL_MSG_CT_GET_STATS_CPU
	statsInsertFailed = 9
	statsDrop         = 10
	statsEarlyDrop    = 11
)

// askStatistics reads the statistics over netlink: a message for each CPU.
func (h *Health) askStatistics() error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	answers, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: getStatsCPU, Flags: netlink.Request | netlink.Dump},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return err
	}
	if len(answers) == 0 {
		return errors.New("the kernel tells no statistics")
	}
	for _, a := range answers {
		if err := h.addStatistics(a.Data); err != nil {
			return err
		}
	}
	return nil
}

// addStatistics adds those of one CPU: struct nfgenmsg and attributes.
func (h *Health) addStatistics(b []byte) error {
	if len(b) < 4 {
		return unix.EBADMSG
	}
	attributes, err := netlink.NewAttributeDecoder(b[4:])
	if err != nil {
		return err
	}
	attributes.ByteOrder = binary.BigEndian
	for attributes.Next() {
		switch attributes.Type() {
		case statsInsertFailed:
			h.InsertsFailed += uint64(attributes.Uint32())
		case statsDrop:
			h.Drops += uint64(attributes.Uint32())
		case statsEarlyDrop:
			h.EarlyDrops += uint64(attributes.Uint32())
		}
	}
	return attributes.Err()
}

// readStatistics reads /proc/net/stat/nf_conntrack: names, then a line of
// hexadecimal numbers for each CPU.
func (h *Health) readStatistics(b []byte) error {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	names := strings.Fields(lines[0])
	seen := 0
	for _, line := range lines[1:] {
		for i, field := range strings.Fields(line) {
			if i >= len(names) {
				break
			}
			sum := map[string]*uint64{"insert_failed": &h.InsertsFailed, "drop": &h.Drops, "early_drop": &h.EarlyDrops}[names[i]]
			if sum == nil {
				continue
			}
			n, err := strconv.ParseUint(field, 16, 64)
			if err != nil {
				return fmt.Errorf("%s: %q is not a hexadecimal number", names[i], field)
			}
			*sum += n
			seen++
		}
	}
	if seen == 0 {
		return errors.New("/proc/net/stat/nf_conntrack: no figures that we know")
	}
	return nil
}
