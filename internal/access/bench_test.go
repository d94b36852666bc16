package access

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

// fleet is a cloud of so many groups with 60 rules each, in four regions, that answers in
// 50 ms, and a configuration with a target for each group.
func fleet(tb testing.TB, groups int) *world {
	w := newWorld(tb, twoPeople)
	cfg := &config.Config{People: map[string]config.Person{}, Targets: map[string]config.Target{}}
	for i := range 20 {
		cfg.People[fmt.Sprintf("p%d", i)] = config.Person{Groups: []string{"ops"}, Fixed: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 32)}}
	}
	regions := []string{"eu-central-1", "eu-west-1", "us-east-1", "ap-northeast-1"}
	for n := range groups {
		here := ec2test.Place{Region: regions[n%4]}
		rules := make([]ec2test.Rule, 60)
		for i := range rules {
			rules[i] = ec2test.Rule{Protocol: "tcp", From: 22, To: 22, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 32), Description: "sekisho: fixed address"}
			if i < 20 {
				rules[i].Tags = fixedTags(fmt.Sprintf("p%d", i))
			}
		}
		id := w.server.AddGroup(here, ec2test.Group{Name: fmt.Sprintf("g%d", n)}, rules...)
		cfg.Targets[fmt.Sprintf("t%d", n)] = config.Target{
			AWS: config.TargetAWS{Region: here.Region, Group: id, Via: config.ViaRules}, Port: 22, Exposure: config.ExposureOnRequest, Allow: []config.Allow{{Who: "ops"}}, AtMost: time.Hour,
		}
	}
	w.Access = &Access{Config: cfg, Cloud: securitygroup.Open(securitygroup.Options{Endpoint: w.server.URL()})}
	w.server.SetLatency(50 * time.Millisecond)
	return w
}

func (w *world) metrics(b *testing.B) {
	b.ReportMetric(float64(len(w.server.Calls()))/float64(b.N), "calls/op")
	if high := w.server.MaxInFlight(); high > 8 {
		b.Errorf("%d calls were in flight", high)
	} else {
		b.ReportMetric(float64(high), "in-flight")
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, groups := range []int{200, 800} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) {
			w := fleet(b, groups)
			w.server.ForgetCalls()
			for b.Loop() {
				if p := w.Plan(b.Context(), w.Doors(), nil); !p.Empty() || len(p.Failed) > 0 || len(p.Groups) != groups {
					b.Fatal(p.Failed, len(p.Groups))
				}
			}
			w.metrics(b)
		})
	}
}

func BenchmarkWhere(b *testing.B) {
	for _, groups := range []int{200, 800} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) {
			w := fleet(b, groups)
			w.server.ForgetCalls()
			for b.Loop() {
				if hits, failed := w.Where(b.Context(), alices.Addr(), w.Places(), nil); len(failed) > 0 || len(hits) != groups {
					b.Fatal(failed, len(hits))
				}
			}
			w.metrics(b)
		})
	}
}
