package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"sekisho/internal/notify/notifytest"
)

// eximConf takes mail from anybody for example.com, and puts it into a folder.
const eximConf = `
primary_hostname = mx.example.com
exim_user = USER
exim_group = GROUP
deliver_drop_privilege = true
spool_directory = DIR/spool
log_file_path = DIR/log/%s
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
acl_smtp_rcpt = rcpt
begin acl
rcpt:
  accept domains = example.com
  deny
begin routers
local:
  driver = accept
  domains = example.com
  transport = folder
begin transports
folder:
  driver = appendfile
  maildir_format
  directory = DIR/mail
  create_directory
`

// mailServer is a real one that listens at the host's localhost:25, as Amazon Linux 2's
// does. nil: there is none.
func (h *host) mailServer(t *testing.T) (mailbox func(*testing.T) []string) {
	t.Helper()
	e, err := notifytest.NewExim(t, eximConf, nil)
	if err != nil {
		t.Run("the mail", func(t *testing.T) { t.Skipf("LEFT OUT: %v", err) })
		return nil
	}
	var l net.Listener
	err = h.Host.Do(func() (err error) {
		l, err = new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:25")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Serve(t, l)
	return func(t *testing.T) (all []string) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(e.Dir, "mail", "new", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(text))
		}
		return all
	}
}
