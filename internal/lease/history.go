package lease

import (
	"net/netip"
	"time"
)

// History is what is remembered of a prefix's earlier bans.
type History struct {
	Prefix netip.Prefix
	Count  int
	Last   time.Time // when the last ban began
}
