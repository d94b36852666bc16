package gate

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/securitygroup"
)

// instant is a cloud that does all that it is asked at once.
type instant struct{}

func (instant) Open(_ context.Context, _ access.Door, p netip.Prefix, id, person string, length time.Duration, _ func()) (access.Opened, error) {
	return access.Opened{Rule: securitygroup.Rule{ID: "sgr-0123456789abcdef0"}, Lease: securitygroup.Lease{ID: id, Person: person, Until: time.Now().Add(length)}}, nil
}
func (instant) Shorten(context.Context, access.Door, netip.Prefix, string, time.Duration) error {
	return nil
}
func (instant) Release(context.Context, access.Door, access.Opened) error { return nil }
func (instant) Reap(context.Context, []securitygroup.Place) access.Reaped { return access.Reaped{} }
func (instant) Who(context.Context, []access.Door) ([]access.Admitted, []access.Failure) {
	return nil, nil
}

// crowd is a configuration of so many people and targets, all for all.
func crowd(people, targets int) *config.Config {
	cfg := config.Default()
	cfg.People, cfg.Targets = map[string]config.Person{}, map[string]config.Target{}
	for i := range people {
		cfg.People[fmt.Sprintf("p%d", i)] = config.Person{Groups: []string{"ops"}}
	}
	for i := range targets {
		cfg.Targets[fmt.Sprintf("t%d", i)] = config.Target{
			AWS: config.TargetAWS{Region: "eu-central-1", Group: fmt.Sprintf("sg-%017d", i)}, Port: 22, Exposure: config.ExposureOnRequest,
			Allow: []config.Allow{{Who: "ops"}}, AtMost: time.Hour, IPv6: 128,
		}
	}
	return cfg
}

// BenchmarkOpen is opens that are decided, and written down before and after, in a file,
// by as many people at a time as make the disk's waits short.
func BenchmarkOpen(b *testing.B) {
	l, err := ledger.Open(b.Context(), filepath.Join(b.TempDir(), "state", "gate.db"), ledger.Options{})
	if err != nil {
		b.Fatal(err)
	}
	cfg := crowd(1000, 1000)
	g := New(Options{Config: func() *config.Config { return cfg }, Ledger: l, Alone: true, Groups: func(*config.Config) Groups { return instant{} }})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	var n atomic.Int64
	b.SetParallelism(256)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(n.Add(1))
			person, target := i%1000, (i+i/1000)%1000
			who := Who{Person: fmt.Sprintf("p%d", person), Role: api.RolePerson, Via: api.ViaKey, From: netip.AddrFrom4([4]byte{203, 0, byte(i >> 18), byte(person)})}
			o, err := g.Open(ctx, who, fmt.Sprintf("t%d", target), api.OpenRequest{Seconds: 600})
			if err != nil || o.State != api.Open {
				b.Errorf("%+v, %v", o, err)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "opens/s")
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
	if err := l.Close(); err != nil {
		b.Error(err)
	}
}
