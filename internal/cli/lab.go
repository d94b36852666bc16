package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/daemon"
	"sekisho/internal/firewall"
	"sekisho/internal/lab"
	"sekisho/internal/printable"
)

func labCommand(g *globals) *cobra.Command {
	var length time.Duration
	var sources int
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Show everything live, in network namespaces, harmless to this machine",
		Long: "Build a small internet in network namespaces: a host with a real sshd, its administrator and attackers,\n" +
			"guard the host, try rule sets, good and bad, and show what happens. Needs root and sshd. Nothing of it touches\n" +
			"this machine. Exit code 0 only if the attackers were banned, whoever is from another country or too many at a time\n" +
			"was kept out, and the administrator was locked out for no longer than a trial.",
		Example: `  sekisho lab
  sekisho lab --sources 1000`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := &show{g: g, ui: newUI(g), sources: sources}
			return s.run(cmd.Context(), length)
		},
	}
	cmd.Flags().DurationVar(&length, "for", 2*time.Minute, "end at the latest after a `DURATION`")
	cmd.Flags().IntVar(&sources, "sources", 200, "how many sources the wave of attackers has, `N`")
	return cmd
}

// show is one run of the lab.
type show struct {
	g       *globals
	ui      *ui
	sources int
	began   time.Time
	failed  []string

	mu     sync.Mutex // the scenes speak from several goroutines
	dir    string     // configuration, state and socket of the host's daemon
	lab    *lab.Lab
	kernel *firewall.Kernel
	client *client
	daemon *labProgram
}

var (
	labAttacker4 = netip.MustParseAddr("198.18.1.2")
	labAttacker6 = netip.MustParseAddr("2001:db8:bad::2")
	labNeighbour = netip.MustParseAddr("2001:db8:bad::beef") // of the same /64
	labWave      = netip.MustParseAddr("198.19.0.1")
	labLiar      = netip.MustParseAddr("203.0.113.66")
)

func (s *show) run(ctx context.Context, length time.Duration) (err error) {
	if err := lab.Available(""); errors.Is(err, lab.ErrNotRoot) {
		return withHint(err, "sudo sekisho lab")
	}
	if _, err := lab.FindSSHD(); err != nil {
		return withHint(err, "install openssh-server (apt or dnf); it need not run")
	}
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	s.began = time.Now()
	dir, err := os.MkdirTemp("", "sekisho-lab-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if s.lab, err = lab.New(ctx, lab.Options{LogFormat: lab.ISO}); err != nil {
		return fmt.Errorf("build the lab: %w", err)
	}
	defer func() { err = errors.Join(err, s.lab.Close()) }()
	s.say("a host with %s, an administrator, and the Internet (all in namespaces)", s.lab.Version)

	s.dir = dir
	s.client = newClient(&globals{socket: filepath.Join(dir, "control.sock")})
	if err := s.declare(fmt.Sprintf("admins: [%s, %s]", lab.Admin4, lab.Admin6)); err != nil {
		return err
	}
	if err := s.guard(ctx); err != nil {
		return err
	}
	defer func() { s.daemon.end() }() // whichever runs then
	if s.kernel, err = firewall.NewKernel(firewall.Options{NetNS: s.lab.Host.FD()}); err != nil {
		return err
	}
	defer s.kernel.Close()

	if err := s.scenes(ctx); err != nil {
		if ctx.Err() == context.DeadlineExceeded {
			return withHint(fmt.Errorf("the lab was not done within %s", length), "give it longer with --for")
		}
		return err
	}
	if len(s.failed) > 0 {
		return fmt.Errorf("the lab went wrong: %s", strings.Join(s.failed, "; "))
	}
	s.say("done: every attacker banned, strangers kept out, the administrator never locked out for longer than a trial")
	return s.report(ctx)
}

// report shows what an administrator reads of all this afterwards.
func (s *show) report(ctx context.Context) error {
	s.say("what the report of the day says of it (sekisho report --days 1):")
	program, err := s.sekisho(ctx, nil, "report", "--days", "1")
	if err != nil {
		return err
	}
	<-program.done
	if program.err != nil {
		return fmt.Errorf("the report: %w: %s", program.err, sanitize(program.said()))
	}
	if !s.g.json {
		fmt.Fprintf(s.g.stdout, "\n%s", lines(program.said()))
	}
	return nil
}

// declare writes the host's configuration file.
func (s *show) declare(lines ...string) error {
	source := fmt.Sprintf("version: 1\nlog: {source: files, files: [%s]}\ncountry: {every: no}\n%s\n", s.lab.LogPath, strings.Join(lines, "\n"))
	return os.WriteFile(filepath.Join(s.dir, "sekisho.yaml"), []byte(source), 0o600)
}

// guard starts the daemon as a process of the host's, as it would run for real.
func (s *show) guard(ctx context.Context) error {
	program, err := s.sekisho(ctx, nil, "run")
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	s.daemon = program
	for {
		var status daemon.Status
		if err := s.client.get(ctx, "status", nil, &status); err == nil && len(status.Sources) > 0 {
			s.say("sekisho guards it: pid %d, mode %s, reading %s", status.PID, status.Mode, filepath.Base(s.lab.LogPath))
			return nil
		}
		if program.ended() || ctx.Err() != nil {
			program.end()
			return fmt.Errorf("the daemon did not come up: %s", sanitize(program.said()))
		}
		pause(ctx, 20*time.Millisecond)
	}
}

func (s *show) scenes(ctx context.Context) error {
	session, err := s.lab.Login(ctx, lab.Admin4)
	if err != nil {
		return fmt.Errorf("the administrator's first login: %w", err)
	}
	defer session.Close()
	s.say("the administrator logs in from %s, and stays", lab.Admin4)

	if err := s.attack(ctx, labAttacker4, lab.VictimUser); err != nil {
		return err
	}
	if s.lab.IPv6 {
		if err := s.attack(ctx, labAttacker6, "oracle"); err != nil {
			return err
		}
		if err := s.shut(ctx, labNeighbour, "its neighbour in the same /64"); err != nil {
			return err
		}
	}
	if err := s.lies(ctx); err != nil {
		return err
	}
	if err := s.wave(ctx); err != nil {
		return err
	}
	if err := session.Alive(ctx); err != nil {
		s.fail("the administrator's session died: %v", err)
	}
	again, err := s.lab.Login(ctx, lab.Admin4)
	if err != nil {
		s.fail("the administrator cannot log in any more: %v", err)
	} else {
		again.Close()
		s.say("the administrator's session lives, and a new login works")
	}
	if err := s.unban(ctx); err != nil {
		return err
	}
	return s.rules(ctx, session)
}

// attack has one source guess passwords until it is banned, and measures.
func (s *show) attack(ctx context.Context, from netip.Addr, user string) error {
	s.say("attack begins: %s guesses passwords of %s", from, user)
	watch := s.watch(ctx, from)
	result, err := s.lab.Attack(ctx, lab.Attack{Method: lab.Password, From: from, User: user, Passwords: []string{"123456", "password", "admin"}, Conns: 3, Patience: 2 * time.Second})
	if err != nil {
		return fmt.Errorf("attack from %s: %w", from, err)
	}
	seen := watch()
	if seen.banned.IsZero() {
		s.fail("%s made %d attempts and was not banned", from, result.Attempts())
		return nil
	}
	s.say("%s is banned in the kernel %s after its %s failure was logged", from,
		seen.banned.Sub(seen.last).Round(10*time.Microsecond), printable.Ordinal(seen.failures))
	return s.shut(ctx, from, "the attacker")
}

// sighting is when the log and the kernel showed what.
type sighting struct {
	failures int
	last     time.Time // when the last failure before the ban stood in the log
	banned   time.Time
}

// watch looks at the log and the kernel until from is banned; the function that
// it returns waits for that, but not long.
func (s *show) watch(ctx context.Context, from netip.Addr) func() sighting {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan sighting, 1)
	go func() {
		var seen sighting
		for ctx.Err() == nil {
			n := s.failures(from)
			now := time.Now()
			if n > seen.failures {
				seen.failures, seen.last = n, now
			}
			if s.banned(ctx, from) {
				seen.banned = time.Now()
				break
			}
			pause(ctx, 100*time.Microsecond)
		}
		done <- seen
	}()
	return func() sighting {
		late := time.AfterFunc(2*time.Second, cancel)
		defer late.Stop()
		defer cancel()
		return <-done
	}
}

// failures counts the lines of the log that tell of a wrong password from a source.
func (s *show) failures(from netip.Addr) (n int) {
	log, err := os.ReadFile(s.lab.LogPath)
	if err != nil {
		return 0
	}
	mark := []byte(" from " + from.String() + " port ")
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte("Failed password")) && bytes.Contains(line, mark) {
			n++
		}
	}
	return n
}

// banned asks the kernel, not the daemon.
func (s *show) banned(ctx context.Context, a netip.Addr) (found bool) {
	_ = s.kernel.Bans(ctx, func(b firewall.Ban) error {
		found = found || b.Prefix.Contains(a)
		return nil
	})
	return found
}

// shut tries a connection that must get no answer.
func (s *show) shut(ctx context.Context, from netip.Addr, who string) error {
	result, err := s.lab.Attack(ctx, lab.Attack{Method: lab.Connect, From: from})
	if err != nil {
		return err
	}
	if result.Conns[0].Port != 0 {
		s.fail("%s (%s) still reaches sshd", who, from)
		return nil
	}
	s.say("%s (%s) gets no answer any more", who, from)
	return nil
}

// lies has an attacker try user names and texts that imitate sshd's own words
// to get a bystander banned.
func (s *show) lies(ctx context.Context) error {
	for i, user := range lab.HostileUsers() {
		from := labLiar
		for range i {
			from = from.Next()
		}
		if _, err := s.lab.Attack(ctx, lab.Attack{Method: lab.Password, From: from, User: user, Passwords: []string{"x"}, Patience: 4 * time.Second}); err != nil {
			return err
		}
	}
	if err := s.lab.Settle(ctx); err != nil {
		return err
	}
	if s.banned(ctx, lab.Bystander) {
		s.fail("forged user names got a bystander banned: %s", lab.Bystander)
		return nil
	}
	s.say("%d forged user names accuse a bystander (%s): not believed", len(lab.HostileUsers()), lab.Bystander)
	return nil
}

// wave has many sources attack at once.
func (s *show) wave(ctx context.Context) error {
	if s.sources <= 0 {
		return nil
	}
	s.say("a wave of attackers begins: %d sources, five passwords each", s.sources)
	var attacks []lab.Attack
	from := labWave
	for range s.sources {
		attacks = append(attacks, lab.Attack{Method: lab.Password, From: from, User: "root", Passwords: []string{"a", "b", "c", "d", "e"}, Patience: 4 * time.Second})
		from = from.Next()
		if b := from.As4(); b[3] == 0 {
			from = from.Next()
		}
	}
	began := time.Now()
	if _, err := s.lab.AttackAll(ctx, attacks, 32); err != nil {
		return err
	}
	attacked := time.Since(began)
	deadline := time.Now().Add(5 * time.Second)
	for {
		left := 0
		var bans []netip.Prefix
		if err := s.kernel.Bans(ctx, func(b firewall.Ban) error { bans = append(bans, b.Prefix); return nil }); err != nil {
			return err
		}
		for _, a := range attacks {
			if !covered(bans, a.From) {
				left++
			}
		}
		if left == 0 {
			s.say("all %d are banned: %d bans in the kernel after %s of attack", s.sources, len(bans), attacked.Round(10*time.Millisecond))
			return nil
		}
		if time.Now().After(deadline) {
			s.fail("%d of %d sources of the wave are not banned", left, s.sources)
			return nil
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// pause waits for the next look, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func covered(bans []netip.Prefix, a netip.Addr) bool {
	for _, p := range bans {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// unban lifts the first attacker's ban by hand: it must reach sshd again.
func (s *show) unban(ctx context.Context) error {
	var reply daemon.UnbanReply
	q := daemon.UnbanRequest{Prefix: netip.PrefixFrom(labAttacker4, 32)}
	if err := s.client.post(ctx, "unban", q, &reply); err != nil {
		return fmt.Errorf("unban by hand: %w", err)
	}
	result, err := s.lab.Attack(ctx, lab.Attack{Method: lab.Connect, From: labAttacker4})
	if err != nil {
		return err
	}
	if len(reply.Lifted) == 0 || result.Conns[0].Port == 0 {
		s.fail("after the unban %s still gets no answer", labAttacker4)
		return nil
	}
	s.say("unbanned by hand: %s reaches sshd again", labAttacker4)
	var bans []daemon.Ban
	if err := s.client.get(ctx, "bans", nil, &bans); err != nil {
		return err
	}
	for _, b := range bans {
		if b.Prefix.Contains(lab.Admin4) || b.Prefix.Contains(lab.Admin6) {
			s.fail("the administrator is banned: %s", b.Prefix)
		}
	}
	return nil
}

// say tells one thing that happened.
func (s *show) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Since(s.began)
	if s.g.json {
		_ = s.ui.json(map[string]any{"at_ms": at.Milliseconds(), "text": fmt.Sprintf(format, args...)})
		return
	}
	s.ui.line(fmt.Sprintf("%8.3f s  %s", at.Seconds(), fmt.Sprintf(format, args...)))
}

// fail notes what must not happen.
func (s *show) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.mu.Lock()
	s.failed = append(s.failed, text)
	s.mu.Unlock()
	s.say("WRONG: %s", text)
}
