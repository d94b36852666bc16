package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"sekisho/internal/gate/api"
)

// said is an error as it is told: of one line, printable, not too long.
func said(err error) string {
	if err == nil {
		return ""
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return line(text, maxSaid)
}

// note takes down whether a grant is in force. keep: it is one that the gate wants.
func (a *Agent) note(id string, err error, keep bool) {
	r := api.ReportedGrant{ID: id, InForce: err == nil, Error: said(err)}
	a.mu.Lock()
	defer a.mu.Unlock()
	was, known := a.said[id]
	if keep {
		a.said[id] = r
	}
	if known && was == r {
		return
	}
	a.changed[id] = r
	a.bound()
}

// again has it be told once more how it is with a grant that the gate asks for anew: by then
// it may have forgotten that.
func (a *Agent) again(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r, known := a.said[id]; known {
		a.changed[id] = r
		a.bound()
	}
}

// ended takes down that a grant is no more.
func (a *Agent) ended(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.said, id)
	delete(a.recent, id)
	a.changed[id] = api.ReportedGrant{ID: id}
	a.bound()
}

// stuck takes down that a grant is still in force that should not be.
func (a *Agent) stuck(id string, err error) {
	r := api.ReportedGrant{ID: id, InForce: true, Error: said(err)}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said[id], a.changed[id] = r, r
}

// bound forgets what nobody asks for any more, where nothing can be reported: a snapshot
// will tell all. Called with a.mu held.
func (a *Agent) bound() {
	if len(a.changed) > 2*MaxGrants {
		clear(a.changed)
		a.whole = true
	}
}

// reportAll has all be reported.
func (a *Agent) reportAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.whole = true
}

// report tells the gate what is in force, soon after it has changed.
func (a *Agent) report(ctx context.Context) error {
	backoff := leastBackoff
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake:
		}
		select { // what comes together is told together
		case <-ctx.Done():
			return nil
		case <-time.After(gather):
		}
		for ctx.Err() == nil {
			more, err := a.reportOnce(ctx)
			if err == nil {
				backoff = leastBackoff
				if !more {
					break
				}
				continue
			}
			if e, ok := errors.AsType[*api.Error](err); ok && (e.Code.Status() == http.StatusUnauthorized || e.Code == api.Forbidden) {
				a.mu.Lock()
				hangUp := a.hangUp
				a.ticket = ""
				a.mu.Unlock()
				if hangUp != nil {
					hangUp()
				}
			}
			a.log.Debug("the gate was not told what is in force", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, 5*time.Second)
		}
	}
}

// reportOnce makes one report, where there is something to tell and somebody to tell it
// to. more: there is more to tell.
func (a *Agent) reportOnce(ctx context.Context) (more bool, err error) {
	a.mu.Lock()
	ticket, whole, client := a.ticket, a.whole, a.client
	if ticket == "" || !whole && len(a.changed) == 0 && !a.seenDue {
		a.mu.Unlock()
		return false, nil
	}
	r := api.Report{Ticket: ticket, Grants: []api.ReportedGrant{}}
	if a.seenDue {
		r.Seen, a.seenDue = a.seen, false
	}
	empty := 1024 + 48*len(r.Seen)
	size := empty
	add := func(one api.ReportedGrant) bool {
		if size += 64 + len(one.ID) + 2*len(one.Error); size > maxReport && len(r.Grants) > 0 {
			return false
		}
		r.Grants = append(r.Grants, one)
		return true
	}
	all := a.said
	if whole {
		r.Whole = true
		for _, one := range all {
			if !add(one) {
				// It is too much for one: told in parts, and none of them is the whole.
				r.Whole = false
				maps.Copy(a.changed, all)
				r.Grants, size = r.Grants[:0], empty
				break
			}
		}
		a.whole = false
	}
	taken := map[string]api.ReportedGrant{}
	if r.Whole {
		taken, a.changed = a.changed, map[string]api.ReportedGrant{}
	} else {
		for id, one := range a.changed {
			if !add(one) {
				break
			}
			taken[id] = one
			delete(a.changed, id)
		}
	}
	more = len(a.changed) > 0
	a.mu.Unlock()
	slices.SortFunc(r.Grants, func(x, y api.ReportedGrant) int { return cmp.Compare(x.ID, y.ID) })
	if err = a.post(ctx, client, r); err == nil {
		return more, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.whole = a.whole || r.Whole
	a.seenDue = a.seenDue || r.Seen != nil
	newer := a.changed
	a.changed = taken
	maps.Copy(a.changed, newer)
	a.bound()
	return true, err
}

func (a *Agent) post(ctx context.Context, client *http.Client, r api.Report) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	q, err := a.o.plain(ctx, http.MethodPost, "/hosts/report", body) // its ticket shows whose it is
	if err != nil {
		return err
	}
	res, err := client.Do(q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return errorOf(res)
	}
	return drain(res.Body)
}

// hintOf is what to do about an error; "" where it does not say.
func hintOf(err error) string {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return line(e.Hint, maxSaid)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Hint
	}
	return ""
}

// Error is an error that also says what to do about it.
type Error struct {
	Err  error
	Hint string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func advised(hint, format string, args ...any) error {
	return &Error{fmt.Errorf(format, args...), hint}
}
