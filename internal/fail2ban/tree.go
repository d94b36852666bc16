package fail2ban

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// tree is one configuration of fail2ban (jail, fail2ban, filter.d/sshd): all its files, merged.
type tree struct {
	defaults options
	// sections has, beside each section that later files change, KNOWN/ and its name: what
	// was there before, for %(known/...)s.
	sections map[string]options
	order    []string // their names, in the order in which they appear
}

// reader reads trees under one folder.
type reader struct {
	disk  disk
	dir   string
	cache map[string]*document // nil: there is no such file
	lists map[string][]string  // what was included for a list of files
	files []string             // that were read, in order, each once
	count int
	total int
	notes []Note
}

func newReader(d disk, dir string) *reader {
	return &reader{disk: d, dir: dir, cache: map[string]*document{}, lists: map[string][]string{}}
}

// tree reads name.conf, name.d/*.conf, name.local and name.d/*.local, in that order, each with
// what it includes before and after it. found is false where there is none of them.
func (r *reader) tree(name string) (_ *tree, found bool, _ error) {
	base := filepath.Join(r.dir, name)
	conf, err := r.folder(base+".d", ".conf")
	if err != nil {
		return nil, false, err
	}
	local, err := r.folder(base+".d", ".local")
	if err != nil {
		return nil, false, err
	}
	var there []string
	for _, path := range slices.Concat([]string{base + ".conf"}, conf, []string{base + ".local"}, local) {
		d, err := r.document(path)
		if err != nil {
			return nil, false, err
		}
		if d != nil {
			there = append(there, path)
		}
	}
	all, err := r.includes(there, nil)
	if err != nil {
		return nil, false, err
	}
	t := &tree{defaults: options{}, sections: map[string]options{}}
	for _, path := range all {
		t.merge(r.cache[path])
	}
	return t, len(all) > 0, nil
}

// folder gives the files of a folder with an ending, as a glob does: hidden ones are not among
// them.
func (r *reader) folder(dir, ext string) ([]string, error) {
	names, err := r.disk.list(dir)
	if err != nil {
		return nil, unreadable(dir, err)
	}
	var res []string
	for _, name := range names {
		if strings.HasSuffix(name, ext) && !strings.HasPrefix(name, ".") {
			res = append(res, filepath.Join(dir, name))
		}
	}
	return res, nil
}

// document reads a file, once; nil: there is none that fail2ban would read.
func (r *reader) document(path string) (*document, error) {
	if d, ok := r.cache[path]; ok {
		return d, nil
	}
	src, err := r.disk.read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.cache[path] = nil
		return nil, nil
	case errors.Is(err, errNoFile):
		r.cache[path] = nil
		r.note("remove it, if it is not meant to be there", "%s is not read: %v", shownPath(path), err)
		return nil, nil
	case err != nil:
		return nil, unreadable(path, err)
	case len(src) > maxFile:
		return nil, &Error{Place: Place{File: path}, Message: "it has more than 1 MiB, and cannot be a configuration of fail2ban", Hint: "see what it is"}
	}
	if r.total += len(src); r.total > maxTotal {
		return nil, &Error{Place: Place{File: path}, Message: "with this file the configuration has more than 8 MiB", Hint: "see what is in " + r.dir}
	}
	if !utf8.Valid(src) {
		r.cache[path] = nil
		r.note("write it in UTF-8, if it is meant to count", "%s is not read, by fail2ban neither: it is not in UTF-8", shownPath(path))
		return nil, nil
	}
	d, err := parse(path, string(src))
	if err != nil {
		return nil, err
	}
	r.cache[path] = d
	r.files = append(r.files, path)
	return d, nil
}

// includes gives paths with all that they include, in the order in which they count: before
// each its .local, where that is not among them anyway. seen are the files that lead here.
func (r *reader) includes(paths, seen []string) ([]string, error) {
	var all []string
	for _, path := range paths {
		all = append(all, path)
		local := splitext(path) + ".local"
		if slices.Contains(paths, local) {
			continue
		}
		d, err := r.document(local)
		if err != nil {
			return nil, err
		}
		if d != nil {
			all = append(all, local)
		}
	}
	// fail2ban keeps such lists too: of files that include each other it matters.
	key := strings.Join(all, "\x01")
	if known, ok := r.lists[key]; ok {
		return known, nil
	}
	var res []string
	for _, path := range all {
		one, err := r.included(path, seen)
		if err != nil {
			return nil, err
		}
		if res = append(res, one...); len(res) > maxFiles {
			return nil, tooMany(path)
		}
	}
	r.lists[key] = res
	return res, nil
}

func (r *reader) included(path string, seen []string) ([]string, error) {
	if r.count++; r.count > maxFiles {
		return nil, tooMany(path)
	}
	d, err := r.document(path)
	if d == nil || err != nil {
		return nil, err
	}
	t := &tree{defaults: d.defaults, sections: map[string]options{"INCLUDES": d.sectionOf("INCLUDES")}}
	res := [2][]string{}
	for i, name := range []string{"before", "after"} {
		v, ok, err := t.get("INCLUDES", name, nil)
		if err != nil {
			return nil, err
		}
		if !ok || t.sections["INCLUDES"] == nil {
			continue
		}
		for other := range strings.SplitSeq(v.text, "\n") {
			if other == "" {
				continue
			}
			if !filepath.IsAbs(other) {
				other = filepath.Dir(path) + "/" + other // not cleaned: .. after a link leads elsewhere
			}
			if slices.Contains(seen, other) {
				continue
			}
			more, err := r.includes([]string{other}, append(slices.Clip(seen), path))
			if err != nil {
				return nil, err
			}
			if res[i] = append(res[i], more...); len(res[i]) > maxFiles {
				return nil, tooMany(path)
			}
		}
	}
	return slices.Concat(res[0], []string{path}, res[1]), nil
}

func tooMany(path string) error {
	return &Error{
		Place: Place{File: path}, Message: fmt.Sprintf("more than %d files are included", maxFiles),
		Hint: "see whether its [INCLUDES] lead in circles",
	}
}

// merge lays a file over t.
func (t *tree) merge(d *document) {
	maps.Copy(t.defaults, d.defaults)
	for _, s := range d.sections {
		s = s.conditional()
		before, ok := t.sections[s.name]
		if !ok {
			t.sections[s.name] = maps.Clone(s.options)
			t.order = append(t.order, s.name)
			continue
		}
		known := t.sections["KNOWN/"+s.name]
		if known == nil {
			known = options{}
			t.sections["KNOWN/"+s.name] = known
		}
		for key := range s.options {
			if o, ok := before[key]; ok {
				known[key] = o
			}
		}
		maps.Copy(before, s.options)
	}
}

func (r *reader) note(remedy, format string, args ...any) {
	r.notes = append(r.notes, Note{fmt.Sprintf(format, args...), remedy})
}

// unreadable is err of path with what to do.
func unreadable(path string, err error) error {
	e := &Error{Place: Place{File: path}, Message: "cannot be read", cause: err}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	e.Message += ": " + err.Error()
	if errors.Is(err, fs.ErrPermission) {
		e.Hint = "run this as root"
	}
	return e
}

func shownPath(path string) string { return Place{File: path}.String() }
