package ec2test

import (
	"path"
	"slices"
	"strings"
	"time"
)

// Fault says which calls it meets, and what happens to them. The zero value meets all
// and does nothing to them.
type Fault struct {
	// Which. What is empty is any.
	Action  string // a pattern: "Describe*"
	Account string
	Region  string
	Key     string // an access key
	Skip    int    // so many of these go unharmed first
	Every   int    // of those after them, each so manyth: 0 and 1 are each
	Times   int    // no more than so many; 0 is no end

	// What.
	After   bool          // the call takes effect first, and OnChange tells of it
	Delay   time.Duration // it takes so much longer
	Do      func(Call)    // is waited for; Code, Status and Form are not known yet
	Cut     bool          // the connection is closed without an answer
	Code    string        // the error that is the answer; STS has its own words for EC2's
	Status  int           // of HTTP; the code's, when 0
	Message string
}

// Denied has IAM forbid an action.
func Denied(action string) Fault {
	return Fault{Action: action, Code: "UnauthorizedOperation"}
}

// Expired has an access key be expired after so many calls: RequestExpired, of STS
// ExpiredToken.
func Expired(key string, after int) Fault {
	return Fault{Key: key, Skip: after, Code: "RequestExpired"}
}

// Outage is a region that nobody hears from.
func Outage(region string) Fault { return Fault{Region: region, Cut: true} }

// Lost is an answer that is lost once, after the call took effect.
func Lost(action string) Fault { return Fault{Action: action, After: true, Cut: true, Times: 1} }

// Throttle is a token bucket: Burst calls at once, and PerSecond more each second.
type Throttle struct{ Burst, PerSecond float64 }

type fault struct {
	Fault
	met, struck int
}

// Inject has a fault meet calls from now on, until it is removed.
func (s *Server) Inject(f Fault) (remove func()) {
	injected := &fault{Fault: f}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, injected)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(f *fault) bool { return f == injected })
	}
}

// strikes counts a call, and tells whether it is met; the caller holds the server's mu.
func (f *fault) strikes(c *call) bool {
	pattern, err := path.Match(f.Action, c.action)
	if f.Action != "" && (err != nil || !pattern) ||
		f.Account != "" && f.Account != c.place.Account || f.Region != "" && f.Region != c.place.Region || f.Key != "" && f.Key != c.caller.ID {
		return false
	}
	f.met++
	n := f.met - f.Skip
	if n <= 0 || f.Every > 1 && n%f.Every != 0 || f.Times > 0 && f.struck >= f.Times {
		return false
	}
	f.struck++
	return true
}

// hits are the faults that meet a call.
type hits []Fault

// meet is what a call has to go through.
func (s *Server) meet(c *call) (time.Duration, hits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var met hits
	for _, f := range s.faults {
		if f.strikes(c) {
			met = append(met, f.Fault)
		}
	}
	return s.latency, met
}

func (h hits) before(c *call) error { return h.strike(c, false) }
func (h hits) after(c *call) error  { return h.strike(c, true) }

func (h hits) strike(c *call, after bool) error {
	for _, f := range h {
		if f.After != after {
			continue
		}
		wait(c.r.Context(), f.Delay)
		if f.Do != nil {
			f.Do(Call{Place: c.place, Action: c.action, Key: c.caller.ID, Caller: c.caller.arn(), When: c.now})
		}
		switch {
		case f.Cut:
			return &apiError{code: "Cut", cut: true, message: "closed without an answer"}
		case f.Code != "" || f.Status != 0:
			return f.error(c)
		}
	}
	return nil
}

// error is what a fault answers.
func (f Fault) error(c *call) error {
	code := f.Code
	if code == "" {
		code = map[bool]string{true: "Unavailable", false: "InternalError"}[f.Status == 503]
	}
	text := f.Message
	switch {
	case text != "":
	case code == "UnauthorizedOperation":
		service := map[bool]string{true: "sts", false: "ec2"}[c.sts]
		text = "You are not authorized to perform this operation. User: " + c.caller.arn() + " is not authorized to perform: " + service + ":" + c.action +
			" because no identity-based policy allows the " + service + ":" + c.action + " action. Encoded authorization failure message: " + strings.Repeat("4hIb-2sXq", 8)
	case code == "RequestExpired":
		text = "Request has expired."
	case code == "RequestLimitExceeded":
		text = "Request limit exceeded."
	default:
		text = "An error has occurred."
	}
	e := refuse(code, "%s", text)
	if f.Status != 0 {
		e.status = f.Status
	}
	return e
}

type bucketOf struct {
	action string
	place  Place
}

type bucket struct {
	tokens float64
	at     time.Time
}

// SetThrottle gives each account and region a bucket for an action, or, if action is
// empty, for each action that has none of its own. A zero Throttle takes it away.
func (s *Server) SetThrottle(action string, t Throttle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.buckets)
	if t == (Throttle{}) {
		delete(s.throttles, action)
		return
	}
	s.throttles[action] = t
}

// spend takes a token for a call.
func (s *Server) spend(c *call) error {
	now := s.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.throttles[c.action]
	if !ok {
		if t, ok = s.throttles[""]; !ok {
			return nil
		}
	}
	of := bucketOf{c.action, c.place}
	b := s.buckets[of]
	if b == nil {
		b = &bucket{tokens: t.Burst, at: now}
		s.buckets[of] = b
	}
	if passed := now.Sub(b.at); passed > 0 {
		b.tokens = min(t.Burst, b.tokens+passed.Seconds()*t.PerSecond)
		b.at = now
	}
	if b.tokens < 1 {
		return refuse("RequestLimitExceeded", "Request limit exceeded.")
	}
	b.tokens--
	return nil
}

// SetClock gives the server another clock.
func (s *Server) SetClock(now func() time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
}

// SetLatency has each call take so long, one half before it takes effect.
func (s *Server) SetLatency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = d
}

// SetSettling has a prefix list be modified (created, deleted) for so long.
func (s *Server) SetSettling(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settling = d
}

// SetStaleness has describes show what was there d ago, by the server's clock; what was
// there before it was set is not known any more.
func (s *Server) SetStaleness(d time.Duration) {
	now := s.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.staleness = d
	for _, st := range s.states {
		st.setStaleness(d, now)
	}
}
