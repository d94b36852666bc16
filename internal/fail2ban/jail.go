package fail2ban

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// jails is what jail.conf and all that is laid over it come to.
type jails struct {
	tree *tree
	all  []*jail // in the order in which they appear
}

// jail is one jail. Only of one that is about sshd anything but its name, filter and place is
// looked at.
type jail struct {
	name    string
	at      Place // of an option that it has
	enabled bool
	filter  call
	broken  error             // why the two before could not be read
	known   map[string]string // what its filter says, as known/OPTION
	custom  bool              // a file of the administrator's changes the filter
	tree    *tree
}

// readJails reads all jails under r's folder.
func readJails(r *reader) (*jails, error) {
	t, found, err := r.tree("jail")
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, &Error{
			Place: Place{File: r.dir}, Message: "there is no jail.conf of fail2ban's here",
			Hint: "name the folder: sekisho import fail2ban DIR; where there is no fail2ban, sekisho init writes a configuration",
		}
	}
	// What fail2ban adds itself.
	t.defaults["fail2ban_version"] = option{text: "0"}
	t.defaults["fail2ban_confpath"] = option{text: strings.ReplaceAll(r.dir, "%", "%%")}
	res := &jails{tree: t}
	for _, name := range t.order {
		if name == "INCLUDES" || strings.HasPrefix(name, "KNOWN/") {
			continue
		}
		j := &jail{name: name, tree: t}
		for _, o := range t.sections[name] {
			if j.at.File == "" || cmp.Or(cmp.Compare(o.at.File, j.at.File), cmp.Compare(o.at.Line, j.at.Line)) < 0 {
				j.at = o.at
			}
		}
		j.broken = j.begin()
		res.all = append(res.all, j)
	}
	return res, nil
}

func (j *jail) begin() error {
	enabled, _, err := j.get("enabled")
	if err != nil {
		return err
	}
	j.enabled = isTrue(enabled.text)
	filter, ok, err := j.get("filter")
	if err != nil || !ok || filter.text == "" {
		return err
	}
	if j.filter, err = parseCall(filter.text); err != nil {
		return &Error{Place: filter.at, Message: "filter of [" + shown(j.name) + "]: " + err.Error(), Hint: notStarted}
	}
	return nil
}

// get is an option of the jail's, with what [DEFAULT] says where it says nothing.
func (j *jail) get(key string) (option, bool, error) { return j.tree.get(j.name, key, j.known) }

// own is whether the jail itself says something of an option, and does not leave that to [DEFAULT].
func (j *jail) own(key string) bool {
	_, ok := j.tree.sections[j.name][key]
	return ok
}

// sshdMode is the mode in which a filter reads what sshd says, as far as its name and parameters tell; ok
// is false where it is about something else.
func (c call) sshdMode() (mode string, ok bool) {
	switch c.name {
	case "sshd":
		return c.parameters["mode"], true
	case "sshd-ddos", "sshd-aggressive": // files of their own in 0.9, and in many a jail.local since
		return strings.TrimPrefix(c.name, "sshd-"), true
	}
	return "", false
}

// modeKey is the option that a filter's mode is.
const modeKey = "mode"

// readFilter reads the jail's filter, for what the jail's other options may take over from it: the
// filter's own parameters are settled before.
func (j *jail) readFilter(r *reader) error {
	t, found, err := r.tree("filter.d/" + j.filter.name)
	if err != nil || !found {
		return err // a copy of jail.* alone has none: it is the one that fail2ban ships then
	}
	j.known = map[string]string{}
	for _, name := range []string{"Definition", "Init"} {
		for _, key := range []string{modeKey, "maxlines", "publickey"} {
			if t.sections[name] == nil {
				continue
			}
			o, ok, err := t.get(name, key, nil)
			if err != nil {
				return err
			}
			if _, there := t.sections[name][key]; ok && there {
				j.known["known/"+key] = strings.ReplaceAll(o.text, "%", "%%")
			}
		}
	}
	base := filepath.Join(r.dir, "filter.d", j.filter.name)
	j.custom = slices.ContainsFunc(r.files, func(path string) bool {
		return path == base+".local" || strings.HasPrefix(path, base+".d/")
	})
	return nil
}

// mode is the mode in which the jail reads what sshd says.
func (j *jail) mode() string {
	mode, _ := j.filter.sshdMode()
	if mode == "" {
		mode = j.known["known/"+modeKey]
	}
	if mode == "" {
		mode = "normal"
	}
	return mode
}

// seconds is a time of the jail's; ok is false where it says none, or none that can be read.
func (j *jail) seconds(key string) (_ float64, _ option, ok bool, _ error) {
	o, ok, err := j.get(key)
	if err != nil || !ok || trim(o.text) == "" {
		return 0, o, false, err
	}
	v, err := parseSeconds(o.text)
	if err != nil {
		return 0, o, false, &Error{
			Place: o.at, Message: fmt.Sprintf("%s of [%s]: %s is no time", key, shown(j.name), quote(o.text)), Hint: "write it like 3600, 1h or 1d 12h; " + notStarted,
		}
	}
	return v, o, true, nil
}

// errOther is a mistake of another jail's, which is told and does not stand in the way.
func errOther(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Error()
	}
	return err.Error()
}
