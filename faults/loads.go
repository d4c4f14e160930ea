package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Loads are the loads that run, as far as a fault may touch them.
type Loads interface {
	// Change gives a load other rates from now on, until back is called. It fails when another fault holds its rate.
	Change(load string, c plan.RateChange) (back func() error, err error)
	// Changes is how many faults have changed the rate of a load so far.
	Changes(load string) int
	// Progress is how far a load has come.
	Progress(load string) (plan.LoadProgress, error)
}

// ChangesLoad is implemented by parameters that name a load, in the key `load`.
type ChangesLoad interface {
	ChangesLoad() string
}

// Pace is the rate of a load, "500/s", or a multiple of the planned one, "3x".
type Pace struct {
	PerSecond, Times float64 // one of them is more than 0
}

// UnmarshalJSON reads "500/s" or "3x".
func (p *Pace) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return errors.New("a rate is written 500/s, or 3x for a multiple of the planned one")
	}
	*p = Pace{}
	num, v, most := strings.TrimSpace(s), &p.PerSecond, 1e6
	switch {
	case strings.HasSuffix(num, "/s"):
		num = strings.TrimSuffix(num, "/s")
	case strings.HasSuffix(num, "x"):
		num, v, most = strings.TrimSuffix(num, "x"), &p.Times, 1000
	default:
		return fmt.Errorf("%q is no rate; write it as 500/s, or 3x for a multiple of the planned one", s)
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
	if err != nil || !(f > 0 && f <= most) {
		return fmt.Errorf("%q is no rate: more than 0, and at most 1000000/s or 1000x", s)
	}
	*v = f
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (p Pace) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

// IsZero reports whether it was left out.
func (p Pace) IsZero() bool { return p == Pace{} }

func (p Pace) String() string {
	if p.Times > 0 {
		return strconv.FormatFloat(p.Times, 'g', -1, 64) + "x"
	}
	return strconv.FormatFloat(p.PerSecond, 'g', -1, 64) + "/s"
}

// of is the rate where so much is planned.
func (p Pace) of(planned float64) float64 {
	if p.Times > 0 {
		return p.Times * planned
	}
	return p.PerSecond
}

// kept is the share of what was asked for that must have been achieved: of requests sent, of connections open at once.
const kept = 0.9

// surge is a load whose rate a fault has changed.
type surge struct {
	env  *Env
	load string
	from plan.LoadProgress // when it was changed
	back func() error
	nth  int               // of the changes of the load
	gone plan.LoadProgress // when it was given back
}

func progress(env *Env, load string) (plan.LoadProgress, error) {
	if env.Loads == nil {
		return plan.LoadProgress{}, fmt.Errorf("no load runs here whose rate could be changed (load %s)", load)
	}
	return env.Loads.Progress(load)
}

// begin changes the rate.
func (s *surge) begin(c plan.RateChange) error {
	s.env.Undo("give load "+s.load+" its planned rate back", func(context.Context) (err error) {
		if s.back != nil {
			err = s.back()
		}
		now, e := s.env.Loads.Progress(s.load)
		s.gone = now
		return errors.Join(err, e)
	})
	back, err := s.env.Loads.Change(s.load, c)
	if err != nil {
		return err
	}
	s.back, s.nth = back, s.env.Loads.Changes(s.load)
	s.from, err = s.env.Loads.Progress(s.load)
	return err
}

// A rate is measured over this time at least, and over so many requests, if they come within a time that one can wait.
const (
	leastWindow   = 200 * time.Millisecond
	mostWindow    = 2 * time.Second
	leastRequests = 20
)

// sent measures what was sent since a moment against what was due.
func (s *surge) sent(since plan.LoadProgress) (now plan.LoadProgress, evidence string, err error) {
	now, err = s.env.Loads.Progress(s.load)
	if err != nil {
		return now, "", err
	}
	took := (now.At - since.At).D()
	due, sent := now.Due-since.Due, now.Sent-since.Sent
	rate := float64(sent) / took.Seconds()
	switch {
	case took < leastWindow || due < leastRequests && took < mostWindow:
		return now, "", NotYet("%d requests of %s in %v; a rate is measured over %v and %d requests", due, s.load, took.Round(time.Millisecond), leastWindow, leastRequests)
	case float64(sent) < kept*float64(due)-1:
		return now, "", NotYet("%d requests of %s were due in %v and %d were sent", due, s.load, took.Round(time.Millisecond), sent)
	case float64(sent) > float64(due)/kept+1:
		return now, "", NotYet("%d requests of %s were due in %v, and %d were sent", due, s.load, took.Round(time.Millisecond), sent)
	}
	return now, fmt.Sprintf("%d requests of %s sent in %v (%.4g/s), %d due, %d by the plan", sent, s.load, took.Round(time.Millisecond), rate, due, now.Planned-since.Planned), nil
}

// changed measures what was sent since the change. Of a rate above the planned one a request must have been due and sent: where
// both are none, they are what the plan gives too.
func (s *surge) changed() (now plan.LoadProgress, evidence string, err error) {
	now, evidence, err = s.sent(s.from)
	if err == nil && now.Rate > now.PlannedRate && (now.Due == s.from.Due || now.Sent == s.from.Sent) {
		return now, "", NotYet("no request of %s was due and sent in %v: %.4g/s is one in %v", s.load, (now.At - s.from.At).D().Round(time.Millisecond), now.Rate, seconds(1/now.Rate))
	}
	return now, evidence, err
}

// proved says that the load sends what is due now.
func (s *surge) proved(context.Context) (string, error) {
	_, evidence, err := s.changed()
	return evidence, err
}

// firstDue is when a load has its first request at the latest, whose rate goes from one to another over a time.
func firstDue(from, to float64, over time.Duration) time.Duration {
	o := over.Seconds()
	if meanwhile := (from + to) / 2 * o; meanwhile < 1 {
		return over + seconds((1-meanwhile)/to)
	}
	// from*t + (to-from)/(2*o)*t² = 1
	return seconds(2 / (from + math.Sqrt(max(0, from*from+2*(to-from)/o))))
}

// seconds is a time of so many seconds, a day at most.
func seconds(s float64) time.Duration {
	return time.Duration(min(s, 86400) * float64(time.Second)).Round(time.Millisecond)
}

// undone says that the load sends what its plan says. One that has ended sends nothing more, and the rate of one that another fault
// has changed since is for that one to prove.
func (s *surge) undone(context.Context) (string, error) {
	now, evidence, err := s.sent(s.gone)
	if s.env.Loads.Changes(s.load) != s.nth { // asked after what was sent, which may be the other's
		return "another fault has changed the rate since", nil
	}
	if err == nil && math.Abs(now.Rate-now.PlannedRate) > 1e-6*now.PlannedRate {
		return "", fmt.Errorf("load %s is to send %.4g/s and not the planned %.4g/s", s.load, now.Rate, now.PlannedRate)
	}
	if errors.Is(err, ErrNotYet) && now.Ended {
		return "the load has ended", nil
	}
	return evidence, err
}
