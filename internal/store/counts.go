package store

// The counts of a day are bounded, however many sources attack: when a day has
// more than DayRows such rows, all but the quarter with the most attempts are summed
// under no source and no user, by country and kind, so that the day's totals
// stay true and the worst sources stay named. A source that was summed and goes
// on gets a row of its own again. Prune sums a past day down to pastDayRows.
const pastDayRows = 1000

// The order is whole, so that both statements speak of the same rows.
const smallCounts = `SELECT source, user, country, kind, lines, attempts FROM counts
	WHERE day = ?1 AND NOT (source = x'' AND user = '')
	ORDER BY attempts DESC, lines DESC, source, user, country, kind LIMIT -1 OFFSET ?2`

const (
	sumSmallCounts = `INSERT INTO counts (day, source, user, country, kind, lines, attempts)
		SELECT ?1, x'', '', country, kind, sum(lines), sum(attempts) FROM (` + smallCounts + `) WHERE true GROUP BY country, kind
		ON CONFLICT DO UPDATE SET lines = lines + excluded.lines, attempts = attempts + excluded.attempts`
	delSmallCounts = `DELETE FROM counts WHERE day = ?1 AND (source, user, country, kind) IN
		(SELECT source, user, country, kind FROM (` + smallCounts + `))`
	numCounts = `SELECT count(*) FROM counts WHERE day = ? AND NOT (source = x'' AND user = '')`
)

// boundCounts keeps the days that were added to within the bound. counted is an
// upper bound that needs no query until it is reached.
func (w *writeTx) boundCounts() {
	for day, added := range w.added {
		known, ok := w.s.counted[day]
		if ok && known+added <= w.s.dayRows {
			w.s.counted[day] = known + added
			continue
		}
		n := w.numCounts(day)
		if n > w.s.dayRows {
			w.foldCounts(day, w.s.dayRows/4)
			n = w.numCounts(day)
		}
		if len(w.s.counted) >= 16 {
			clear(w.s.counted) // a backlog of many days
		}
		w.s.counted[day] = n
	}
}

func (w *writeTx) numCounts(day int64) (n int) {
	if w.err == nil {
		w.err = w.stmt(numCounts).QueryRowContext(w.ctx, day).Scan(&n)
	}
	return n
}

// foldCounts sums all rows of day but the keep with the most attempts.
func (w *writeTx) foldCounts(day int64, keep int) {
	// Sum before delete: the sum rows themselves are never small.
	w.exec(sumSmallCounts, day, keep)
	w.exec(delSmallCounts, day, keep)
}
