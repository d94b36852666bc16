package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
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
// does. It is no service: each connection is handed to a process of it. nil: there is none.
func (h *host) mailServer(t *testing.T) (mailbox func(*testing.T) []string) {
	t.Helper()
	program, err := exec.LookPath("exim4")
	if err != nil {
		t.Run("the mail", func(t *testing.T) { t.Skip("LEFT OUT: needs exim4, to send it to; make deps installs it") })
		return nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Run("the mail", func(t *testing.T) { t.Skipf("LEFT OUT: there is no user to run exim4 as: %v", err) })
		return nil
	}
	group, err := user.LookupGroupId(nobody.Gid)
	if err != nil {
		t.Fatal(err)
	}
	var uid, gid int
	if _, err := fmt.Sscan(nobody.Uid+" "+nobody.Gid, &uid, &gid); err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: nobody has to get in there.
	dir, err := os.MkdirTemp("", "sekisho-exim")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	conf := strings.NewReplacer("DIR", dir, "USER", nobody.Username, "GROUP", group.Name).Replace(eximConf)
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "conf", "spool", "log", "mail"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o700); name != "conf" && err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}

	var l net.Listener
	err = h.Host.Do(func() (err error) {
		l, err = new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:25")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				f, err := conn.(*net.TCPConn).File()
				conn.Close()
				if err != nil {
					return
				}
				defer f.Close()
				cmd := exec.CommandContext(t.Context(), program, "-bs", "-odi", "-C", filepath.Join(dir, "conf"))
				cmd.Stdin, cmd.Stdout, cmd.Dir = f, f, dir
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
				cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
				_ = cmd.Run() // the client sees what came of it
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return func(t *testing.T) (all []string) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(dir, "mail", "new", "*"))
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
