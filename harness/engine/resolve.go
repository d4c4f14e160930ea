package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// leaderTimeout bounds the wait for a leader that a majority confirms, when a fault asks for one.
const leaderTimeout = 10 * time.Second

// resolve turns a selection into nodes, once, records the choice, and marks the nodes as held by the injection.
func (l *life) resolve(ctx context.Context, in *injection, t plan.Target, seed uint64) ([]string, error) {
	nodes, err := l.choose(ctx, in, t, seed)
	if err != nil {
		return nil, err
	}
	l.rd.w.Event(record.Event{Kind: record.Bound, Fault: in.fault.ID, Occurrence: in.n, ID: selection(t), Targets: nodes})
	return nodes, nil
}

// selection names a Target for the record.
func selection(t plan.Target) string {
	s := t.Node + t.Service + t.Group + t.Zone + t.Any
	if t.Pick != "" {
		return string(t.Pick) + " of " + s
	}
	return s
}

// notNow is an error that waiting may mend: who leads is not settled.
type notNow struct{ error }

func (n notNow) Unwrap() error { return n.error }

// choose chooses nodes and holds them. A role is waited for: after the death of a leader, members name it until they have
// elected another one.
func (l *life) choose(ctx context.Context, in *injection, t plan.Target, seed uint64) ([]string, error) {
	if (t.Pick == plan.PickLeader || t.Pick == plan.PickFollower) && t.Group == "" {
		return nil, fmt.Errorf("pick: %s needs a group, which says how to ask who leads", t.Pick)
	}
	for begin := time.Now(); ; {
		nodes, err := l.take(in, t, seed)
		if !errors.As(err, new(notNow)) {
			return nodes, err
		}
		if time.Since(begin) > leaderTimeout {
			return nil, fmt.Errorf("who leads %s could not be found out within %v: %w", t.Group, leaderTimeout, err)
		}
		if e := sleep(ctx, pollEvery/4); e != nil {
			return nil, errors.Join(e, err)
		}
	}
}

// take chooses among the nodes as they are now. Two faults that begin at once do not get the same node: nobody else chooses
// meanwhile.
func (l *life) take(in *injection, t plan.Target, seed uint64) ([]string, error) {
	l.choosing.Lock()
	defer l.choosing.Unlock()
	nodes, err := l.candidates(t, seed)
	if err != nil || t.Any != "" {
		return nodes, err
	}
	ends := l.rd.logEnds()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range nodes {
		l.holds[n]++
	}
	in.nodes = append(in.nodes, nodes...)
	l.targets[in.fault.ID], l.since[in.fault.ID] = nodes, ends
	return nodes, nil
}

func (l *life) candidates(t plan.Target, seed uint64) ([]string, error) {
	if t.Node != "" {
		if _, err := l.rd.cluster.Status(t.Node); err != nil {
			return nil, err
		}
		return []string{t.Node}, nil
	}
	if t.Any != "" {
		ns := running(l.rd.cluster.Nodes(), t.Any)
		if len(ns) == 0 {
			return nil, &cluster.UnknownNodeError{Name: t.Any}
		}
		return ns, nil
	}
	var members, free []string
	for _, n := range l.rd.cluster.Nodes() {
		if (t.Service == "" || n.Service != t.Service) && (t.Group == "" || n.Group != t.Group) && (t.Zone == "" || n.Zone != t.Zone) {
			continue
		}
		s, err := l.rd.cluster.Status(n.Name)
		if errors.As(err, new(*cluster.UnknownNodeError)) {
			continue // scaled away a moment ago
		}
		if err != nil {
			return nil, err
		}
		members = append(members, n.Name)
		l.mu.Lock()
		held := l.holds[n.Name] > 0
		l.mu.Unlock()
		if s.State == cluster.StateRunning && !held {
			free = append(free, n.Name)
		}
	}
	leader := ""
	if t.Pick == plan.PickLeader || t.Pick == plan.PickFollower {
		var err error
		if leader, err = l.leader(t, free); err != nil {
			return nil, err
		}
	}
	return pick(t, members, free, leader, seed)
}

// leader is the leader that a majority confirms and that can be one now: a leader that is to be chosen must be free, and
// one that sets the followers apart must run.
func (l *life) leader(t plan.Target, free []string) (string, error) {
	n, err := l.rd.leaders.leader(t.Group)
	switch {
	case errors.Is(err, errNoLeader):
		return "", notNow{err}
	case err != nil:
		return "", err
	case slices.Contains(free, n):
		return n, nil
	case t.Pick == plan.PickLeader:
		return "", notNow{fmt.Errorf("the leader %s is held by another fault or does not run", n)}
	}
	s, err := l.rd.cluster.Status(n)
	if err != nil || s.State != cluster.StateRunning {
		return "", notNow{errors.Join(fmt.Errorf("the leader %s does not run", n), err)}
	}
	return n, nil
}

// pick chooses among the free members by the seed; the same seed and members give the same choice. Shares are of all
// members, rounded up.
func pick(t plan.Target, members, free []string, leader string, seed uint64) ([]string, error) {
	slices.Sort(free)
	want := 0
	switch lo, _, isNumber := t.Pick.Range(); {
	case t.Pick == "" || t.Pick == plan.PickAll:
		want = len(free)
	case t.Pick == plan.PickLeader:
		if !slices.Contains(free, leader) {
			return nil, fmt.Errorf("the leader %s is held by another fault or does not run", leader)
		}
		return []string{leader}, nil
	case t.Pick == plan.PickFollower:
		free = slices.DeleteFunc(slices.Clone(free), func(n string) bool { return n == leader })
		want = 1
	case t.Pick == plan.PickMajority:
		want = len(members)/2 + 1
	case t.Pick == plan.PickMinority:
		want = (len(members) - 1) / 2
	case isNumber:
		want = lo
	default:
		share, ok := t.Pick.Percent()
		if !ok {
			return nil, t.Pick.Validate()
		}
		want = int(math.Ceil(share * float64(len(members))))
	}
	if want == 0 || want > len(free) {
		return nil, fmt.Errorf("%s: wanted %d, and only %d of %v run and are held by no other fault", selection(t), want, len(free), members)
	}
	chosen := slices.Clone(free)
	r := rand.New(rand.NewPCG(seed, uint64(len(free))))
	r.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	chosen = chosen[:want]
	slices.Sort(chosen)
	return chosen, nil
}

// running finds the nodes that a name stands for: the client, a node, a service or a group, in this order.
func running(nodes []cluster.NodeInfo, name string) []string {
	if name == cluster.Client {
		return []string{name}
	}
	var of [3][]string
	for _, n := range nodes {
		for i, s := range []string{n.Name, n.Service, n.Group} {
			if s == name {
				of[i] = append(of[i], n.Name)
			}
		}
	}
	for _, ns := range of {
		if len(ns) > 0 {
			return ns
		}
	}
	return nil
}
