package access

import (
	"sync"
	"testing"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/securitygroup/ec2test"
)

// TestSideBySide: no look at a place waits for another's, which may not answer.
func TestSideBySide(t *testing.T) {
	w := newWorld(t, twoPeople)
	us := ec2test.Place{Region: "us-east-1"}
	w.Config.Targets["web-us"] = config.Target{AWS: config.TargetAWS{Region: us.Region, Group: w.server.AddGroup(us, ec2test.Group{Name: "us"})}, Port: 22, Allow: w.Config.Targets["web-prod"].Allow}
	var mu sync.Mutex
	var come map[string]bool // regions whose rules were asked for
	var all chan struct{}
	w.server.Inject(ec2test.Fault{Action: "DescribeSecurityGroupRules", Do: func(c ec2test.Call) {
		mu.Lock()
		if !come[c.Region] {
			if come[c.Region] = true; len(come) == 2 {
				close(all)
			}
		}
		waited := all
		mu.Unlock()
		select {
		case <-waited:
		case <-time.After(20 * time.Second):
			t.Error("the other place is not looked at meanwhile")
		}
	}})
	for name, look := range map[string]func() []Failure{
		"plan":    func() []Failure { return w.Plan(t.Context(), w.Doors(), nil).Failed },
		"who":     func() []Failure { _, failed := w.Who(t.Context(), w.Doors()); return failed },
		"watch":   func() []Failure { _, failed := w.Watch(t.Context(), w.Doors()); return failed },
		"where":   func() []Failure { _, failed := w.Where(t.Context(), alices.Addr(), w.Places(), nil); return failed },
		"orphans": func() []Failure { _, failed := w.Orphans(t.Context(), w.Places()); return failed },
		"reap":    func() []Failure { return w.Reap(t.Context(), w.Places()).Failed },
	} {
		t.Run(name, func(t *testing.T) {
			mu.Lock()
			come, all = map[string]bool{}, make(chan struct{})
			mu.Unlock()
			if failed := look(); len(failed) > 0 {
				t.Error(failed)
			}
		})
	}
}
