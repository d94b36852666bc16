package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/config"
	"sekisho/internal/notify"
)

// TestEventKinds holds the words of the file to those of package notify, which package config
// itself must not know.
func TestEventKinds(t *testing.T) {
	var want []string
	for _, k := range notify.Kinds() {
		want = append(want, string(k))
	}
	if diff := cmp.Diff(want, config.EventKinds()); diff != "" {
		t.Errorf("(-notify +config):\n%s", diff)
	}
}
