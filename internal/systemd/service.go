package systemd

import (
	"os"
	"strconv"
)

// IsService reports whether a service manager started this very process: it wants to hear
// when it is ready (sd_notify(3)), or is systemd, which says whom it has executed (since
// 248). INVOCATION_ID would say less: whatever a service, or a desktop's terminal, starts by
// hand inherits it.
func IsService() bool {
	return os.Getenv("NOTIFY_SOCKET") != "" || os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid())
}
