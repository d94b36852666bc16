package systemd

import (
	"fmt"
	"os"
	"testing"
)

// TestIsService: what a service starts by hand has its environment, and is none.
func TestIsService(t *testing.T) {
	for _, test := range []struct {
		name, socket, executed string
		want                   bool
	}{
		{"by hand", "", "", false},
		{"it notifies", "/run/systemd/notify", "", true},
		{"executed by systemd", "", fmt.Sprint(os.Getpid()), true},
		{"what a service has started", "", fmt.Sprint(os.Getppid()), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("INVOCATION_ID", "0123456789abcdef0123456789abcdef")
			t.Setenv("NOTIFY_SOCKET", test.socket)
			t.Setenv("SYSTEMD_EXEC_PID", test.executed)
			if got := IsService(); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
