package access

import (
	"net/netip"
	"strings"
	"testing"

	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

// TestARuleOfOursThatWasWidened: somebody made a rule of ours let everybody in, in the
// console. Its tags stay, so no reaper takes it away, and it was told of as of a plan that
// is not carried out yet, no more.
func TestARuleOfOursThatWasWidened(t *testing.T) {
	w := newWorld(t, twoPeople)
	tags := securitygroup.ManagedTags()
	tags[securitygroup.TagFixed] = "alice"
	widened := ec2test.Rule{Group: w.group, Protocol: "tcp", From: 22, To: 22, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Tags: tags}
	id := w.server.AddRule(w.here, widened)
	widened.From, widened.To = 443, 443 // it opens nothing that a target is the door of
	w.server.AddRule(w.here, widened)

	planned := w.Plan(t.Context(), w.Doors(), nil)
	watched, failed := w.Watch(t.Context(), w.Doors())
	if len(planned.Failed)+len(failed) > 0 {
		t.Fatal(planned.Failed, failed)
	}
	for by, of := range map[string]struct {
		found []Finding
		group string
	}{
		"plan":  {planned.Findings, w.group + ` "web" (`},
		"watch": {watched, w.group + " ("}, // which does not know its name
	} {
		found := of.found
		if len(found) != 1 || found[0].ID != "group_open_to_all" || found[0].Severity != Critical || found[0].Rule != id {
			t.Errorf("%s finds %+v, want that %s is open to all", by, found, id)
		} else if !strings.HasPrefix(found[0].What, of.group) {
			t.Errorf("%s says %q, want it to begin with %q", by, found[0].What, of.group)
		}
	}
}
