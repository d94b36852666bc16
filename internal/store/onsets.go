package store

import "database/sql"

const (
	putOnset = `INSERT INTO onsets (prefix, begun, first, sum) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET first = excluded.first, sum = excluded.sum`
	pageOnsets = `SELECT prefix, begun, first, sum FROM onsets WHERE (prefix, begun) > (?, ?) AND begun >= ? ORDER BY prefix, begun LIMIT ?`
)

func (w *writeTx) onset(o Onset) {
	prefix := encodePrefix(o.Prefix)
	if prefix == nil {
		w.drop("onsets", o.Prefix)
		return
	}
	w.exec(putOnset, seal("onsets", prefix, encodeTime(o.Begun), encodeTime(o.First))...)
}

func scanOnset(rows *sql.Rows) (Onset, bool) {
	var prefix []byte
	var begun, first, sum int64
	err := rows.Scan(&prefix, &begun, &first, &sum)
	p, ok := decodePrefix(prefix)
	return Onset{Prefix: p, Begun: decodeTime(begun), First: decodeTime(first)},
		err == nil && ok && sum == checksum("onsets", prefix, begun, first)
}

func onsetKey(o Onset) []any { return []any{encodePrefix(o.Prefix), encodeTime(o.Begun)} }
