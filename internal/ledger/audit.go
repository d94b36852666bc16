package ledger

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"sekisho/internal/gate/api"
)

// none is the Prev of the first entry, and the head where there is no entry.
const none = "0000000000000000000000000000000000000000000000000000000000000000"

// withoutHash is where the JSON of an entry that has no hash yet ends.
const withoutHash = `,"hash":""}`

// sealed is an entry's canonical JSON, which its hash is over: as encoding/json writes it,
// without "hash".
func sealed(e api.Entry) ([]byte, error) {
	e.Hash = ""
	b, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	b, ok := bytes.CutSuffix(b, []byte(withoutHash))
	if !ok {
		return nil, fmt.Errorf("%w: an entry's JSON does not end with its hash", ErrInvalid)
	}
	return append(b, '}'), nil
}

// hashOf is what the Hash of an entry, sealed, has to be: SHA-256 over Prev's 64 digits and
// that, in hexadecimal digits.
func hashOf(prev string, entry []byte) string {
	b := make([]byte, 0, 1024)
	sum := sha256.Sum256(append(append(b, prev...), entry...))
	return hex.EncodeToString(sum[:])
}

// Append adds e to the audit: Seq, Prev, Hash are set, At where it is zero. It returns the
// entry as it is kept: times to the microsecond, texts that are too long cut.
func (t *Tx) Append(e api.Entry) (api.Entry, error) {
	const what = "write to the audit"
	if err := t.usable(true); err != nil {
		return e, fmt.Errorf("%s: %w", what, err)
	}
	if e.At.IsZero() {
		e.At = t.now()
	}
	e.At, e.Until, e.From = timeOf(micros(e.At)), timeOf(micros(e.Until)), e.From.WithZone("")
	for _, s := range []*string{(*string)(&e.Via), &e.Who, &e.What, &e.Person, &e.Target, &e.Grant, &e.Prefix} {
		*s = text(*s, maxKey)
	}
	e.Rule, e.Why = text(e.Rule, maxText), text(e.Why, maxText)
	e.Seq, e.Prev = t.head.Seq+1, t.head.Hash
	b, err := sealed(e)
	if err != nil {
		return e, fmt.Errorf("%s: %w: %w", what, ErrInvalid, err)
	}
	e.Hash = hashOf(e.Prev, b)
	_, err = t.exec(what, `INSERT INTO audit (seq, at, who, what, person, target, hash, entry) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		e.Seq, micros(e.At), e.Who, e.What, e.Person, e.Target, e.Hash, string(b))
	if err == nil {
		*t.head = Head{Seq: e.Seq, Hash: e.Hash}
	}
	return e, err
}

// Head is the audit's last entry; Seq 0 where there is none.
func (t *Tx) Head() (Head, error) {
	if t.head != nil {
		return *t.head, t.usable(false)
	}
	return one(t, "read the audit's head", scanHead, `SELECT seq, hash FROM head WHERE id = 1`)
}

func scanHead(t *Tx, rows *sql.Rows) (h Head, err error) {
	return h, t.scan(rows, &h.Seq, &h.Hash)
}

// auditRow is a row as it stands there, believed or not.
type auditRow struct {
	seq, at                         int64
	who, what, person, target, hash string
	entry                           []byte
}

const auditColumns = `SELECT seq, at, who, what, person, target, hash, entry FROM audit `

func scanAudit(t *Tx, rows *sql.Rows) (r auditRow, err error) {
	return r, t.scan(rows, &r.seq, &r.at, &r.who, &r.what, &r.person, &r.target, &r.hash, &r.entry)
}

const changed = "its hash does not fit: it was changed"

// open is the entry that a row holds, or what is wrong with the row.
func (r *auditRow) open() (e api.Entry, wrong string) {
	if err := json.Unmarshal(r.entry, &e); err != nil {
		return api.Entry{Seq: r.seq}, "it cannot be read"
	}
	e.Hash = r.hash
	switch {
	case hashOf(e.Prev, r.entry) != r.hash:
		return e, changed
	case e.Seq != r.seq:
		return e, "it stands at another's place"
	case micros(e.At) != r.at || e.Who != r.who || e.What != r.what || e.Person != r.person || e.Target != r.target:
		return e, "what it is looked for by was changed"
	}
	return e, ""
}

func (t *Tx) entries(what string, yield func(api.Entry) error, query string, args ...any) error {
	return t.each(what, func(rows *sql.Rows) error {
		r, err := scanAudit(t, rows)
		if err != nil {
			return err
		}
		e, wrong := r.open()
		if wrong != "" {
			return fmt.Errorf("%w: entry %d: %s", ErrCorrupt, r.seq, wrong)
		}
		return yield(e)
	}, query, args...)
}

const maxAudit = 1000

// Audit returns the entries that f means, the newest first.
func (t *Tx) Audit(f Filter) ([]api.Entry, error) {
	query, args := f.query()
	var all []api.Entry
	err := t.entries("read the audit", func(e api.Entry) error {
		all = append(all, e)
		return nil
	}, query, args...)
	return all, err
}

// query asks for what f means. Whoever a person is, of both of an entry's, is looked for in
// an index each, from its end: the audit grows for good, and is asked often.
func (f Filter) query() (query string, args []any) {
	var where []string
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	newest := func(columns, first string) string {
		all := where
		if first != "" {
			all = append([]string{first}, where...)
		}
		if len(all) > 0 {
			columns += `WHERE ` + strings.Join(all, ` AND `)
		}
		return columns + ` ORDER BY seq DESC LIMIT ` + arg(int64(f.Limit))
	}
	if f.Target != "" {
		where = append(where, `target = `+arg(f.Target))
	}
	if begin, ok := strings.CutSuffix(f.What, "*"); ok {
		where = append(where, `substr(what, 1, `+arg(int64(len([]rune(begin))))+`) = `+arg(begin))
	} else if f.What != "" {
		where = append(where, `what = `+arg(f.What))
	}
	if !f.From.IsZero() {
		where = append(where, `at >= `+arg(micros(f.From)))
	}
	if !f.To.IsZero() {
		where = append(where, `at < `+arg(micros(f.To)))
	}
	if f.Before > 0 {
		where = append(where, `seq < `+arg(f.Before))
	}
	if f.Limit <= 0 || f.Limit > maxAudit {
		f.Limit = maxAudit
	}
	if f.Person == "" {
		return newest(auditColumns, ""), args
	}
	about := newest(`SELECT seq FROM audit `, `person = `+arg(f.Person))
	did := newest(`SELECT seq FROM audit `, `who = `+arg(f.Person))
	where = []string{`seq IN (SELECT seq FROM (` + about + `) AS about UNION ALL SELECT seq FROM (` + did + `) AS did)`}
	return newest(auditColumns, ""), args
}

// LastBy is when somebody was last written down as who did something; zero: never.
func (t *Tx) LastBy(who string) (time.Time, error) {
	all, err := list(t, "read the audit", scanInt, `SELECT at FROM audit WHERE who = $1 ORDER BY seq DESC LIMIT 1`, who)
	if err != nil || len(all) == 0 {
		return time.Time{}, err
	}
	return timeOf(all[0]), nil
}

// AuditAfter returns at most limit entries after the one of that Seq, the oldest first. An
// entry that is damaged is ErrCorrupt. What was returned never changes: an export needs no
// transaction over all of it.
func (t *Tx) AuditAfter(seq int64, limit int) ([]api.Entry, error) {
	var all []api.Entry
	err := t.entries("read the audit", func(e api.Entry) error {
		all = append(all, e)
		return nil
	}, auditColumns+`WHERE seq > $1 ORDER BY seq LIMIT $2`, seq, int64(min(max(limit, 0), maxAudit)))
	return all, err
}

// AuditAll yields every entry, the oldest first; what yield returns ends it. It is read a
// part at a time. Whoever gives entries to a stranger as they come uses AuditAfter, in one
// Read each.
func (t *Tx) AuditAll(yield func(api.Entry) error) error {
	for last := int64(0); ; {
		part, err := t.AuditAfter(last, maxAudit)
		if err != nil {
			return err
		}
		for _, e := range part {
			if err := yield(e); err != nil {
				return err
			}
		}
		if len(part) < maxAudit {
			return nil
		}
		last = part[len(part)-1].Seq
	}
}

// Verify checks the audit's chain, from the first entry to the head, and that it holds
// what known says: heads that were told elsewhere. The error is only that it cannot be
// read; what is wrong with the chain is in the verdict.
func (t *Tx) Verify(known ...Head) (api.Verdict, error) {
	const what = "check the audit"
	head, err := t.Head()
	if err != nil {
		return api.Verdict{}, err
	}
	c := NewChain(known...)
	for last := int64(math.MinInt64); c.verdict.OK; {
		rows, err := list(t, what, scanAudit, auditColumns+`WHERE seq > $1 ORDER BY seq LIMIT $2`, last, int64(maxAudit))
		if err != nil {
			return api.Verdict{}, err
		}
		for _, r := range rows {
			last = r.seq
			e, wrong := r.open()
			if c.add(r.seq, e, wrong); !c.verdict.OK {
				break
			}
		}
		if len(rows) < maxAudit {
			break
		}
	}
	c.end(head)
	return c.Verdict(), nil
}

// Chain checks entries, the oldest first, wherever they come from: what the audit holds, or
// what was exported from it. It is made by NewChain.
type Chain struct {
	verdict api.Verdict
	known   map[int64]string
	last    int64 // the greatest of known
}

// NewChain is a chain without entries. What known says, heads that were told elsewhere, has
// to be in it.
func NewChain(known ...Head) *Chain {
	c := &Chain{verdict: api.Verdict{OK: true, Head: none}, known: map[int64]string{}}
	for _, h := range known {
		if h.Seq <= 0 {
			continue
		}
		if was, ok := c.known[h.Seq]; ok && was != h.Hash {
			c.broken(h.Seq, "two heads that are known contradict each other")
		}
		c.known[h.Seq] = h.Hash
		c.last = max(c.last, h.Seq)
	}
	return c
}

// Add checks the next line of an export, without its end: it is an entry's canonical JSON,
// to the byte. After the first that does not fit, the rest is not looked at.
func (c *Chain) Add(line []byte) {
	next := c.verdict.Entries + 1
	var e api.Entry
	if json.Unmarshal(line, &e) != nil {
		c.broken(next, "it cannot be read")
		return
	}
	text, err := json.Marshal(e)
	entry, sealErr := sealed(e)
	if err != nil || sealErr != nil || !bytes.Equal(text, line) || hashOf(e.Prev, entry) != e.Hash {
		c.broken(next, changed)
		return
	}
	c.add(e.Seq, e, "")
}

// Verdict is what the entries so far, taken for all, come to.
func (c *Chain) Verdict() api.Verdict {
	if c.last > c.verdict.Entries {
		c.broken(c.verdict.Entries+1, fmt.Sprintf("the end is missing: entry %d is known to have been there", c.last))
	}
	return c.verdict
}

func (c *Chain) broken(seq int64, what string) {
	if v := &c.verdict; v.OK {
		v.OK, v.Broken, v.What = false, seq, what
	}
}

func (c *Chain) add(seq int64, e api.Entry, wrong string) {
	v := &c.verdict
	next := v.Entries + 1
	known, isKnown := c.known[seq]
	switch {
	case !v.OK:
	case seq != next:
		c.broken(next, fmt.Sprintf("it is missing: the next one there is %d", seq))
	case wrong != "":
		c.broken(next, wrong)
	case e.Prev != v.Head:
		c.broken(next, "it does not follow from the one before")
	case isKnown && known != e.Hash:
		c.broken(next, "it is not the one that is known: what leads to it was written anew")
	default:
		v.Entries, v.Head = next, e.Hash
	}
}

// end compares with the head that is kept beside the entries.
func (c *Chain) end(head Head) {
	v := &c.verdict
	switch {
	case head.Seq > v.Entries:
		c.broken(v.Entries+1, fmt.Sprintf("the end is missing: the head says %d entries", head.Seq))
	case head.Seq < v.Entries:
		c.broken(head.Seq+1, fmt.Sprintf("the head says %d entries: it was changed", head.Seq))
	case head.Hash != v.Head:
		c.broken(max(v.Entries, 1), "the head has another hash")
	}
}
