package store

import (
	"database/sql"
	"errors"
	"math"
)

const (
	maxRuleText = 255     // bytes of a rule's words; the kernel keeps fewer
	maxCounter  = 1 << 56 // what a kernel's counter may say, so that no sum overflows

	getMark = `SELECT packets, bytes, day, sum FROM rule_marks WHERE chain = ? AND rule = ? AND drops = ?`
	putMark = `INSERT INTO rule_marks (chain, rule, drops, packets, bytes, day, sum) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET packets = excluded.packets, bytes = excluded.bytes, day = excluded.day, sum = excluded.sum`
	addRule = `INSERT INTO rule_days (day, chain, rule, drops, packets, bytes) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET packets = min(packets + excluded.packets, 1 << 60), bytes = min(bytes + excluded.bytes, 1 << 60)`
	pageRules = `SELECT day, chain, rule, drops, packets, bytes FROM rule_days
		WHERE (day, chain, rule, drops) > (?, ?, ?, ?) ORDER BY day, chain, rule, drops LIMIT ?`
)

// rule adds to a day what a rule has counted since it was read last, and marks how
// far that is: both or neither, so that nothing is counted twice whenever we die. A
// counter that went back was begun anew.
func (w *writeTx) rule(c RuleCount) {
	day := encodeDay(c.Day)
	if day == 0 {
		w.drop("day", c.Day)
		return
	}
	if w.err != nil {
		return
	}
	chain, rule, drops := clip(c.Chain, maxWord), clip(c.Rule, maxRuleText), int64(0)
	if c.Drops {
		drops = 1
	}
	packets, bytes := int64(min(c.Packets, maxCounter)), int64(min(c.Bytes, maxCounter))
	morePackets, moreBytes := packets, bytes
	var oldPackets, oldBytes, oldDay, sum int64
	switch err := w.stmt(getMark).QueryRowContext(w.ctx, chain, rule, drops).Scan(&oldPackets, &oldBytes, &oldDay, &sum); {
	case errors.Is(err, sql.ErrNoRows):
		if !c.Fresh {
			morePackets, moreBytes = 0, 0
		}
	case err != nil:
		w.err = err
		return
	case sum != checksum("rule_marks", chain, rule, drops, oldPackets, oldBytes, oldDay):
		morePackets, moreBytes = 0, 0 // how far it was counted is not known
	case packets >= oldPackets && bytes >= oldBytes:
		morePackets, moreBytes = packets-oldPackets, bytes-oldBytes
	}
	w.exec(putMark, seal("rule_marks", chain, rule, drops, packets, bytes, day)...)
	if morePackets > 0 || moreBytes > 0 {
		w.exec(addRule, day, chain, rule, drops, morePackets, moreBytes)
	}
}

// ruleKey is what tells rules apart.
type ruleKey struct {
	chain, rule string
	drops       bool
}

// pendingRule is the last reading of a rule that waits.
type pendingRule struct {
	at   int  // in rules
	grew bool // since the reading of it that waits before
}

// addRules keeps the readings in their order. One takes the place of that before it
// where the store comes to the same: what that one comes to must not depend on what is
// in the store, as a first one's does, nor be a counter begun anew. Past the bound
// none is needed: the next tells it too.
func (b *batch) addRules(rules []RuleCount) {
	for _, c := range rules {
		k := ruleKey{c.Chain, c.Rule, c.Drops}
		p, ok := b.ruleAt[k]
		grew := ok && b.rules[p.at].Packets <= c.Packets && b.rules[p.at].Bytes <= c.Bytes
		switch {
		case grew && p.grew && b.rules[p.at].Day == c.Day:
			b.rules[p.at] = c
		case len(b.rules) < b.maxOthers:
			if b.ruleAt == nil {
				b.ruleAt = map[ruleKey]pendingRule{}
			}
			b.ruleAt[k] = pendingRule{len(b.rules), grew}
			b.rules = append(b.rules, c)
		}
	}
}

// beforeDay is the key before all of a day's rules.
func beforeDay(day string) []any { return []any{encodeDay(day) - 1, "", "", int64(math.MaxInt64)} }
