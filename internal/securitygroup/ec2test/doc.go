// Package ec2test is an EC2 and STS endpoint in process, for tests: security groups, their
// rules and tags, managed prefix lists, and the roles of other accounts, spoken as the
// AWS SDK speaks them (EC2 Query 2016-11-15, STS Query 2011-06-15) and with AWS's
// behaviour: canonical prefixes, duplicates, batches that are made whole or not at all,
// quotas, paging, versions. The conformance suite beside it holds it to moto and to a
// real account.
//
// Only tests, and the lab, import it. Everything exported is safe for concurrent use.
//
//	s := ec2test.Start(t)                                // or New(Options{Addr: "127.0.0.1:4566"}), Close
//	place := ec2test.Place{Region: "eu-central-1"}       // the default account
//	group := s.AddGroup(place, ec2test.Group{Name: "web"})
//	cmd.Env = append(os.Environ(), s.Environ(place)...)  // endpoint, region, credentials
//
// # Where things are
//
// The account of a call follows from its access key (AddKey; a key that nobody added is
// the default account's), the region from the scope of its signature, which is not
// verified. Every Place has a state of its own. Each region has a default VPC
// (DefaultVPC) and, unlike AWS's, no group that was not made.
//
// # The API
//
//	Start(tb) *Server                        New(Options) (*Server, error)
//	URL() string    Environ(Place) []string  Close() error
//	Client() *http.Client                    for an SDK in the same process: its Config.HTTPClient
//
//	AddGroup(Place, Group) string            AddRule(Place, Rule) string       seeding: no call is
//	AddPrefixList(Place, PrefixList) string  AddInstance(Place, Instance) string  made, no limit is
//	AddInterface(Place, Interface) string    AddVPC(Place, id string)          checked; ids come back
//	AddRole(Role)                            AddKey(Key)
//	RemoveRule(Place, id string) bool
//
//	Groups(Place) []Group                    Rules(Place, groups ...string) []Rule   what is true now
//	PrefixLists(Place) []PrefixList          Places() []Place
//	Calls() []Call                           MaxInFlight() int
//	ForgetCalls()                            OnChange(func(Change)) (remove func())
//
//	SetClock(func() time.Time)               the Date header, ends of sessions, staleness, throttling
//	SetLatency(time.Duration)                each call takes this long
//	SetStaleness(time.Duration)              describes show the state of so long ago
//	SetSettling(time.Duration)               so long a prefix list is being modified
//	SetThrottle(action string, Throttle)     RequestLimitExceeded past a bucket of each account and region
//	Inject(Fault) (remove func())            whatever else goes wrong: before or after a call took effect
//
// A Fault says which calls it meets (action, account, region, key, and which of those in
// turn) and what happens to them: Denied, Expired, Outage and Lost make the usual ones.
package ec2test
