package fail2ban

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/printable"
)

// Import is a configuration of fail2ban's in our words. All of its texts are fit for a terminal.
type Import struct {
	Dir      string    `json:"dir"`
	Files    []string  `json:"files"`    // that were read, in the order in which they were
	Jail     string    `json:"jail"`     // whose values these are
	Jails    []string  `json:"jails"`    // all that are about sshd, and enabled
	Settings []Setting `json:"settings"` // what was taken over
	Notes    []Note    `json:"notes"`    // what was not, or not as it was
	Database string    `json:"database"` // where fail2ban keeps its bans; "": it keeps none

	config  *config.Config
	remarks map[string]config.Remark
	banning []string
}

// BanJails are the jails whose bans are about sshd, or about who was banned often.
func (i *Import) BanJails() []string { return i.banning }

// Setting is one key of the configuration that came of it.
type Setting struct {
	Key   string   `json:"key"`
	Value string   `json:"value"`
	Why   []string `json:"why"` // from which file, line and option
}

// Bounds of what is told.
const (
	maxNotes   = 100
	maxIgnored = 2000 // addresses that are taken over
)

// Read reads the configuration under dir, which is /etc/fail2ban as a rule. A mistake in it is
// an *Error.
func Read(dir string) (*Import, error) { return read(machine{}, path.Clean(dir)) }

func read(d disk, dir string) (*Import, error) {
	r := newReader(d, dir)
	all, err := readJails(r)
	if err != nil {
		return nil, err
	}
	i := &importing{
		Import: Import{Dir: printable.Text(dir), Files: []string{}, Jails: []string{}, Settings: []Setting{}, config: config.Default(), remarks: map[string]config.Remark{}},
		reader: r,
	}
	if err := i.choose(all); err != nil {
		return nil, err
	}
	for _, take := range []func() error{
		i.mode, i.thresholds, i.growth, i.ignored, i.log, i.actions, i.leftOut, i.database,
	} {
		if err := take(); err != nil {
			return nil, err
		}
	}
	for _, j := range all.all {
		i.other(j)
	}
	for _, file := range r.files {
		i.Files = append(i.Files, printable.Text(file))
	}
	i.Notes = append(append([]Note{}, r.notes...), i.Notes...)
	if more := len(i.Notes) - maxNotes; more > 0 {
		i.Notes = append(i.Notes[:maxNotes:maxNotes], Note{What: fmt.Sprintf("%d more are not shown", more)})
	}
	return &i.Import, nil
}

// File is the whole sekisho.yaml, which config.Parse takes.
func (i *Import) File(now time.Time) []byte {
	head := []string{
		fmt.Sprintf("sekisho.yaml out of jail %s of %s, written by sekisho import fail2ban on %s.", shown(i.Jail), i.Dir, now.Format(time.DateOnly)),
		`What was taken over has its place there after "Here:"; what is commented out is at sekisho's default.`,
		"Beside fail2ban first: docs/from-fail2ban.md tells how to change over. Every key is told in docs/configuration.md.",
	}
	if len(i.Notes) > 0 {
		head = append(head, "Not taken over, or not as it was:")
	}
	for _, n := range i.Notes {
		head = append(head, strings.TrimRight("- "+n.What+". "+n.Remedy, " "))
	}
	return config.File(i.config, head, i.remarks)
}

// importing is an Import that is being made.
type importing struct {
	Import
	reader *reader
	jail   *jail   // whose values are taken
	more   []*jail // others about sshd that are enabled
}

// choose finds the jails that are about sshd, and the one whose values are taken.
func (i *importing) choose(all *jails) error {
	var about []*jail
	for _, j := range all.all {
		if _, ok := j.filter.sshdMode(); !ok {
			if j.name == "sshd" && j.broken != nil {
				return j.broken
			}
			continue
		}
		if j.broken != nil {
			return j.broken
		}
		about = append(about, j)
		if j.enabled {
			i.Jails = append(i.Jails, shown(j.name))
		}
	}
	if len(about) == 0 {
		return &Error{
			Place: Place{File: i.reader.dir}, Message: "no jail here reads sshd's log: none has the filter sshd",
			Hint: "sekisho init writes a configuration for this host; keep fail2ban for what it does now",
		}
	}
	rank := func(j *jail) int { // the least is taken
		switch {
		case j.enabled && j.name == "sshd":
			return 0
		case j.enabled:
			return 1
		case j.name == "sshd":
			return 2
		}
		return 3
	}
	i.jail = slices.MinFunc(about, func(a, b *jail) int { return cmp.Compare(rank(a), rank(b)) })
	i.Jail = printable.Text(i.jail.name)
	for _, j := range about {
		if j != i.jail && !j.enabled {
			continue
		}
		if err := j.readFilter(i.reader); err != nil {
			return err
		}
		if j != i.jail {
			i.more = append(i.more, j)
		}
	}
	i.banning = append(i.banning, i.jail.name)
	for _, j := range all.all {
		if j != i.jail && j.enabled && j.broken == nil && (slices.Contains(about, j) || j.filter.name == "recidive") {
			i.banning = append(i.banning, j.name)
		}
	}
	if !i.jail.enabled {
		i.note("guard.enforce: no decides and tells only", "jail [%s] is not enabled: fail2ban does not guard SSH now. These are the values that it would have", shown(i.jail.name))
	}
	return nil
}

// name has the file say key, with the value that the configuration has.
func (i *importing) name(key string, why ...string) {
	for n := range why {
		why[n] = printable.Text(why[n])
	}
	i.remarks[key] = config.Remark{Named: true, Why: why}
	i.Settings = append(i.Settings, Setting{key, config.Text(i.config, key), why})
}

func (i *importing) remark(key string, why ...string) { i.remarks[key] = config.Remark{Why: why} }

// note tells what is not taken over.
func (i *importing) note(remedy, format string, args ...any) {
	i.Notes = append(i.Notes, Note{printable.Text(fmt.Sprintf(format, args...)), remedy})
}

// from says where a value came from: FILE:LINE: key = value.
func from(key string, o option) string {
	if o.at.File == "" {
		return key + " is not said: fail2ban's own is " + o.text
	}
	return fmt.Sprintf("%s: %s = %s", o.at, key, shown(o.text))
}

// modes are the modes of the filter, each but extra with all that is in those before.
var modes = []config.Mode{config.ModeNormal, config.ModeDDoS, config.ModeExtra, config.ModeAggressive}

// mode takes over which messages count: those of all jails together.
func (i *importing) mode() error {
	var why []string
	var found []config.Mode
	for _, j := range slices.Concat([]*jail{i.jail}, i.more) {
		text := j.mode()
		key := modeKey
		o, _, err := j.get(key)
		if err == nil && (o.text != text || j.filter.name != "sshd") {
			key = "filter"
			o, _, err = j.get(key)
		}
		if err != nil {
			return err
		}
		why = append(why, from(key, o))
		mode := config.Mode(text)
		if !slices.Contains(modes, mode) {
			i.note("choose guard.mode", "%s: the filter has no mode %s: guard.mode is normal", o.at, quote(text))
			mode = config.ModeNormal
		}
		if !slices.Contains(found, mode) {
			found = append(found, mode)
		}
	}
	g := &i.config.Guard
	found = slices.DeleteFunc(found, func(m config.Mode) bool { return m == config.ModeNormal })
	switch len(found) {
	case 0:
		g.Mode = config.ModeNormal
	case 1:
		g.Mode = found[0]
	default:
		g.Mode = config.ModeAggressive
	}
	if g.Mode != config.ModeAggressive {
		why = append(why, "aggressive, which is sekisho's default, counts connections, too, that do not try to log in")
	}
	i.name("guard.mode", why...)
	return nil
}

// thresholds takes over how many attempts, within which time, begin how long a ban.
func (i *importing) thresholds() error {
	g := &i.config.Guard
	const most = 1000
	o, ok, err := i.jail.get("maxretry")
	if err != nil {
		return err
	}
	if !ok || o.text == "" {
		o, g.MaxRetry = option{text: "3"}, 3
	} else if n, err := strconv.Atoi(strings.ReplaceAll(trim(o.text), "_", "")); err == nil {
		g.MaxRetry = min(max(n, 1), most)
		if n != g.MaxRetry {
			i.note(fmt.Sprintf("guard.max_retry is %d", g.MaxRetry), "%s: it is from 1 to %d here", from("maxretry", o), most)
		}
	} else {
		i.note("choose guard.max_retry", "%s: it is no number", from("maxretry", o))
	}
	i.name("guard.max_retry", from("maxretry", o))
	if g.Known.MaxRetry < g.MaxRetry {
		g.Known.MaxRetry = g.MaxRetry
		i.name("guard.known.max_retry", "not less than guard.max_retry")
	}
	if err := i.duration("findtime", "guard.find_time", &g.FindTime, 7*day); err != nil {
		return err
	}
	return i.duration("bantime", "guard.ban_time", &g.BanTime, 365*day)
}

const day = 24 * time.Hour

// duration takes over a time, which is from 1 s to longest here.
func (i *importing) duration(option, key string, to *time.Duration, longest time.Duration) error {
	s, o, ok, err := i.jail.seconds(option)
	if err != nil {
		return err
	}
	if !ok {
		s, o.text = 600, "600"
	}
	why := from(option, o)
	switch d := asDuration(s); {
	case option == "bantime" && s < 0:
		*to = longest
		i.note("sekisho ban ADDR --for forever bans by hand without end", "%s: no ban is for ever here, so that no mistake can lock anybody out for good: %s is %s", why, key, config.FormatDuration(longest))
	case d < time.Second:
		i.note("choose "+key, "%s: that is less than a second, and %s stays at %s", why, key, config.FormatDuration(*to))
	case d > longest:
		*to = longest
		i.note(key+" is "+config.FormatDuration(longest), "%s: it is %s at most here", why, config.FormatDuration(longest))
	default:
		*to = d
	}
	i.name(key, why)
	return nil
}

// growth takes over how bans grow on repeat.
func (i *importing) growth() error {
	g := &i.config.Guard
	o, ok, err := i.jail.get("bantime.increment")
	if err != nil {
		return err
	}
	permanent, _, _, err := i.jail.seconds("bantime")
	if err != nil {
		return err
	}
	if !isTrue(o.text) || permanent < 0 {
		g.Growth.Factor = 1
		why := "bantime.increment is not set: bans do not grow. Leave this out, and they double, up to 7d"
		if ok {
			why = from("bantime.increment", o) + ": bans do not grow"
		}
		i.name("guard.growth.factor", why)
		return nil
	}
	g.Growth.Factor = 2
	i.name("guard.growth.factor", from("bantime.increment", o), "fail2ban doubles, too")
	for _, key := range []string{"bantime.formula", "bantime.multipliers", "bantime.factor"} {
		o, ok, err := i.jail.get(key)
		if err != nil {
			return err
		}
		if n, wrong := strconv.ParseFloat(o.text, 64); ok && o.text != "" && (key != "bantime.factor" || wrong != nil || n != 1) {
			i.note("choose guard.growth.factor: each further ban is so many times as long", "%s: bans double here", from(key, o))
		}
	}
	s, o, ok, err := i.jail.seconds("bantime.maxtime")
	switch {
	case err != nil:
		return err
	case ok && s > 0:
		g.Growth.Max = min(max(asDuration(s), time.Second), 365*day)
		why := []string{from("bantime.maxtime", o)}
		if g.Growth.Max < g.BanTime {
			why = append(why, "not less than guard.ban_time")
		}
		g.Growth.Max = max(g.Growth.Max, g.BanTime)
		i.name("guard.growth.max", why...)
	default:
		g.Growth.Max = max(g.Growth.Max, g.BanTime)
		i.name("guard.growth.max", "bantime.maxtime is not set: fail2ban's grow on and on")
	}
	if g.Growth.Forget < g.Growth.Max {
		g.Growth.Forget = g.Growth.Max
		i.name("guard.growth.forget", "not less than guard.growth.max")
	}
	for _, key := range []string{"bantime.rndtime", "bantime.overalljails"} {
		o, ok, err := i.jail.get(key)
		if err != nil {
			return err
		}
		if ok && o.text != "" && (key == "bantime.rndtime" || isTrue(o.text)) {
			i.note("", "%s has no counterpart, and needs none: %s", from(key, o), map[string]string{
				"bantime.rndtime":      "a ban ends when it was said to",
				"bantime.overalljails": "there is SSH alone here",
			}[key])
		}
	}
	return nil
}

// ignored takes over who is never banned.
func (i *importing) ignored() error {
	o, _, err := i.jail.get("ignoreip")
	if err != nil {
		return err
	}
	i.remark("admins", "fail2ban's ignoreip is under guard.ignore. Put your own fixed address here: it is let in whatever else the rules say")
	var found []netip.Prefix
	for _, w := range splitWords(o.text) {
		p, ok := ignoredPrefix(w)
		switch {
		case !ok:
			i.note("put its address under guard.ignore or admins: whoever runs its DNS could turn a name elsewhere", "%s: ignoreip has %s, which is no address", o.at, quote(w))
		case p.Addr().IsLoopback():
		case !takes("guard: {ignore: [%s]}", p):
			i.note("guard.enforce: no decides and tells, and bans nobody", "%s: ignoreip has %s, which is too much of the internet to be left alone", o.at, p)
		case len(found) == maxIgnored:
			i.note("add them by hand", "%s: ignoreip has more than %d addresses: the rest is left out", o.at, maxIgnored)
			found = append(found, netip.Prefix{})
		case len(found) < maxIgnored:
			found = append(found, p)
		}
	}
	if len(found) > maxIgnored {
		found = found[:maxIgnored]
	}
	i.config.Guard.Ignore = apart(found)
	if len(i.config.Guard.Ignore) > 0 {
		i.name("guard.ignore", from("ignoreip", o), "this host's own addresses are never banned, and need not be here")
	}
	self, ok, err := i.jail.get("ignoreself")
	if err == nil && ok && !isTrue(self.text) {
		i.note("", "%s: this host's own addresses are never banned here", from("ignoreself", self))
	}
	return err
}

// ignoredPrefix reads an address or a network as fail2ban does: bits beyond its length do not
// count, and the length may be written as a mask.
func ignoredPrefix(s string) (netip.Prefix, bool) {
	host, bits, network := strings.Cut(s, "/")
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	n := a.BitLen()
	if network {
		if mask, err := netip.ParseAddr(bits); err == nil && mask.BitLen() == n {
			if n = ones(mask); n < 0 {
				return netip.Prefix{}, false
			}
		} else if n, err = strconv.Atoi(bits); err != nil || n < 0 || n > a.BitLen() {
			return netip.Prefix{}, false
		}
	}
	if a.Is4In6() {
		if n -= 96; n < 0 {
			return netip.Prefix{}, false
		}
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, n).Masked(), true
}

// ones is how many bits of a mask are set; -1 where it is none.
func ones(mask netip.Addr) int {
	all, _ := netip.AddrFromSlice(bytes.Repeat([]byte{0xff}, mask.BitLen()/8))
	for n := range mask.BitLen() + 1 {
		if netip.PrefixFrom(all, n).Masked().Addr() == mask {
			return n
		}
	}
	return -1
}

// apart sorts prefixes, and leaves out what is within another.
func apart(ps []netip.Prefix) []netip.Prefix {
	ps = slices.Clone(ps)
	slices.SortFunc(ps, netip.Prefix.Compare)
	var res []netip.Prefix
	for _, p := range ps {
		if n := len(res); n == 0 || !res[n-1].Overlaps(p) {
			res = append(res, p)
		}
	}
	return res
}

// takes reports whether a configuration may say so.
func takes(format string, args ...any) bool {
	_, err := config.Parse("", []byte("version: 1\n"+fmt.Sprintf(format, args...)+"\n"))
	return err == nil
}

// log takes over where sshd's messages are read.
func (i *importing) log() error {
	backend, _, err := i.jail.get("backend")
	if err != nil {
		return err
	}
	paths, _, err := i.jail.get("logpath")
	if err != nil {
		return err
	}
	l := &i.config.Log
	if strings.HasPrefix(backend.text, "systemd") {
		l.Source = config.SourceJournald
		i.name("log.source", from("backend", backend))
		return nil
	}
	var files []string
	usual := true
	for line := range strings.SplitSeq(paths.text, "\n") {
		file := trim(line)
		if n := strings.LastIndexByte(file, ' '); n > 0 && (file[n+1:] == "tail" || file[n+1:] == "head") {
			file = trim(file[:n])
		}
		switch {
		case file == "":
			continue
		case strings.ContainsAny(file, "*?["):
			i.note("name the files under log.files, with log.source: files", "%s: %s is a pattern, and is not taken over", paths.at, quote(file))
			continue
		case !takes("log: {source: files, files: [%s]}", config.Quote(file)):
			i.note("name the file under log.files, with log.source: files", "%s: %s is no absolute path", paths.at, quote(file))
			continue
		}
		usual = usual && slices.Contains([]string{"/var/log/auth.log", "/var/log/secure", "/var/log/messages"}, file)
		if !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	if len(files) == 0 || usual {
		if paths.at.File != "" {
			i.remark("log.source", from("logpath", paths), "auto takes what this host has, and says which: sekisho status")
		}
		return nil
	}
	l.Source, l.Files = config.SourceFiles, files
	if !takes("log: {source: files, files: %s}", config.Text(i.config, "log.files")) {
		l.Source, l.Files = config.SourceAuto, nil
		i.note("name those that sshd writes to under log.files, with log.source: files", "%s: logpath has too many files to be taken over", paths.at)
		return nil
	}
	i.name("log.source", from("logpath", paths))
	i.name("log.files", from("logpath", paths))
	return nil
}

// database finds where fail2ban keeps its bans.
func (i *importing) database() error {
	t, found, err := i.reader.tree("fail2ban")
	if err != nil {
		return err
	}
	i.Database = "/var/lib/fail2ban/fail2ban.sqlite3"
	if !found || t.sections["Definition"] == nil {
		return nil
	}
	o, ok, err := t.get("Definition", "dbfile", nil)
	if err != nil || !ok {
		return err
	}
	i.Database = o.text
	if strings.EqualFold(o.text, "none") || o.text == ":memory:" {
		i.Database = ""
	}
	return nil
}

// other tells of a jail that is about something else, or that is one more about sshd.
func (i *importing) other(j *jail) {
	_, sshd := j.filter.sshdMode()
	name := shown(j.name)
	switch {
	case j == i.jail:
	case j.broken != nil:
		i.note("correct it: fail2ban does not start with that", "jail [%s] cannot be read: %s", name, errOther(j.broken))
	case !j.enabled:
	case sshd:
		i.note("compare it with [DEFAULT] and ["+i.Jail+"], and set what you want to keep under guard",
			"%s: jail [%s] is about sshd, too. Its mode is part of guard.mode; its other values are not taken over: one guard counts once", j.at, name)
	case j.filter.name == "recidive":
		i.note("leave guard.growth out, and bans double on repeat; guard.escalate bans networks", "%s: jail [%s] bans again who was banned often; bans that grow do that here", j.at, name)
	default:
		i.note("keep fail2ban for it, with enabled = false under ["+i.Jail+"]", "%s: jail [%s] (filter %s) is not about sshd, and sekisho is", j.at, name, shown(j.filter.name))
	}
}
