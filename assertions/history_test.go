package assertions

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// every changes the operations that match.
func (s *story) every(match func(*record.Op) bool, change func(*record.Op)) {
	for i := range s.ops {
		if match(&s.ops[i]) {
			change(&s.ops[i])
		}
	}
}

func absent(o *record.Op) { o.Found, o.Value, o.Count = flag(false), "", 0 }
func unread(o *record.Op) { absent(o); o.Found, o.Outcome, o.Error = nil, record.Unknown, "timeout" }

func reads(key string, members ...string) func(*record.Op) bool {
	return func(o *record.Op) bool {
		return o.Verify && o.Key == key && (len(members) == 0 || slices.Contains(members, o.Member))
	}
}

func isInsert(key string) func(*record.Op) bool {
	return func(o *record.Op) bool { return o.Kind == "insert" && o.Key == key }
}

func (s *story) read(key, value string, member string) {
	o := record.Op{Round: 1, Kind: "read", Verify: true, Key: key, Value: value, Found: flag(value != ""), Call: 12500 * ms, Return: 12501 * ms, Outcome: record.OK, Member: member}
	s.ops = append(s.ops, o)
}

func TestNoLostWrites(t *testing.T) {
	put := func(value string, call, ret time.Duration, out record.Outcome) record.Op {
		return record.Op{Round: 1, Kind: "put", Key: "k", Value: value, Call: call, Return: ret, Outcome: out}
	}
	for name, c := range map[string]struct {
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"all there":              {nil, Pass, "20 of 20 acknowledged writes found, 0 lost, 0 not read; 0 of 0 with unknown outcome found"},
		"lost":                   {func(s *story) { s.every(reads("w3"), absent) }, Fail, "19 of 20 acknowledged writes found, 1 lost"},
		"one member has it":      {func(s *story) { s.every(reads("w3", "store-1", "store-2"), absent) }, Pass, ""},
		"the service decides":    {func(s *story) { s.read("w3", "", "") }, Fail, "1 lost"},
		"the service has it":     {func(s *story) { s.every(reads("w3"), absent); s.read("w3", "v3", "") }, Pass, ""},
		"the last answer counts": {func(s *story) { s.read("w3", "", ""); s.read("w3", "v3", "") }, Pass, ""},
		"another value":          {func(s *story) { s.every(reads("w3"), func(o *record.Op) { o.Value = "zzz" }) }, Fail, "1 lost"},
		"no values told":         {func(s *story) { s.every(reads("w3"), func(o *record.Op) { o.Value = "" }) }, Pass, ""},
		"unread":                 {func(s *story) { s.every(reads("w3"), unread) }, Invalid, "1 acknowledged write could not be read"},
		"never asked for":        {func(s *story) { s.ops = slices.DeleteFunc(s.ops, func(o record.Op) bool { return reads("w3")(&o) }) }, Invalid, "1 acknowledged write could not be read"},
		"unread by one member":   {func(s *story) { s.every(reads("w3", "store-1"), unread) }, Pass, ""},
		"the others do not have it": {func(s *story) {
			s.every(reads("w3", "store-1", "store-2"), absent)
			s.every(reads("w3", "store-3"), unread)
		}, Invalid, "1 acknowledged write could not be read"},
		"the service does not have it": {func(s *story) {
			s.read("w3", "", "")
			s.every(reads("w3", "store-3"), unread)
		}, Fail, "1 lost"},
		"the service was asked in vain, and none has it": {func(s *story) {
			s.every(reads("w3"), absent)
			s.ops = append(s.ops, record.Op{Round: 1, Kind: "read", Key: "w3", Verify: true, Outcome: record.Unknown})
		}, Fail, "1 lost"},
		"the others have another value": {func(s *story) {
			s.every(reads("w3", "store-1", "store-2"), func(o *record.Op) { o.Value = "zzz" })
			s.every(reads("w3", "store-3"), unread)
		}, Fail, "1 lost"},
		"of a register, the others do not have it": {func(s *story) {
			s.ops = append(s.ops, put("a", time.Second, 2*time.Second, record.OK))
			s.read("k", "", "store-1")
			s.read("k", "", "store-2")
			s.read("k", "a", "store-3")
			s.every(reads("k", "store-3"), unread)
		}, Invalid, "1 acknowledged write could not be read"},
		"lost and unread":  {func(s *story) { s.every(reads("w3"), unread); s.every(reads("w4"), absent) }, Fail, "18 of 20 acknowledged writes found, 1 lost, 1 not read"},
		"nothing was read": {func(s *story) { s.every(func(o *record.Op) bool { return o.Verify }, unread) }, Invalid, "verify read nothing"},
		"nothing acknowledged": {func(s *story) {
			s.every(func(o *record.Op) bool { return o.Kind == "insert" }, func(o *record.Op) { o.Outcome = record.Unknown })
		}, Invalid, "no write was acknowledged"},
		"empty":             {func(s *story) { s.ops = nil }, Invalid, "verify read nothing"},
		"unknown and there": {func(s *story) { s.every(isInsert("w3"), func(o *record.Op) { o.Outcome = record.Unknown }) }, Pass, "19 of 19 acknowledged writes found, 0 lost, 0 not read; 1 of 1 with unknown outcome found"},
		"unknown and not there": {func(s *story) {
			s.every(isInsert("w3"), func(o *record.Op) { o.Outcome = record.Unknown })
			s.every(reads("w3"), absent)
		}, Pass, "0 of 1 with unknown outcome found"},
		"failed and there": {func(s *story) { s.every(isInsert("w3"), func(o *record.Op) { o.Outcome = record.Failed }) }, Fail, "; 0 of 0 with unknown outcome found; 1 failed write there"},
		"failed and not there": {func(s *story) {
			s.every(isInsert("w3"), func(o *record.Op) { o.Outcome = record.Failed })
			s.every(reads("w3"), absent)
		}, Pass, "19 of 19"},
		"failed, tried again": {func(s *story) {
			s.ops = append(s.ops, record.Op{Round: 1, Kind: "insert", Key: "w3", Value: "v3", Outcome: record.Failed})
		}, Pass, "20 of 20"},
		"unknown, tried again": {func(s *story) {
			s.ops = append(s.ops, record.Op{Round: 1, Kind: "insert", Key: "w3", Value: "v3", Outcome: record.Unknown})
		}, Pass, "20 of 20"},
		"failed after an unknown": {func(s *story) {
			s.every(isInsert("w3"), func(o *record.Op) { o.Outcome = record.Unknown })
			s.ops = append(s.ops, record.Op{Round: 1, Kind: "insert", Key: "w3", Value: "v3", Outcome: record.Failed})
		}, Pass, ""},

		// Two clients insert one key: the value of the one that was told "ok" must be there, and not that of the other.
		"what another was told had failed": {func(s *story) {
			s.ops = append(s.ops, record.Op{Round: 1, Kind: "insert", Key: "w3", Value: "x", Outcome: record.Failed})
			s.every(reads("w3"), func(o *record.Op) { o.Value = "x" })
		}, Fail, "19 of 20 acknowledged writes found, 0 lost, 0 not read; 0 of 0 with unknown outcome found; 1 failed write there"},
		"what another was told had failed, on one member": {func(s *story) {
			s.ops = append(s.ops, record.Op{Round: 1, Kind: "insert", Key: "w3", Value: "x", Outcome: record.Failed})
			s.every(reads("w3", "store-2"), func(o *record.Op) { o.Value = "x" })
		}, Fail, "20 of 20 acknowledged writes found, 0 lost, 0 not read; 0 of 0 with unknown outcome found; 1 failed write there"},
		"what another was told nothing of": {func(s *story) {
			s.ops = append(s.ops, record.Op{Round: 1, Kind: "insert", Key: "w3", Value: "x", Outcome: record.Unknown})
			s.every(reads("w3"), func(o *record.Op) { o.Value = "x" })
		}, Fail, "19 of 20 acknowledged writes found, 1 lost"},
		"what two others were told had failed, and nothing of": {func(s *story) {
			for _, out := range []record.Outcome{record.Unknown, record.Failed} {
				s.ops = append(s.ops, record.Op{Round: 1, Kind: "insert", Key: "w3", Value: "x", Outcome: out})
			}
			s.every(reads("w3"), func(o *record.Op) { o.Value = "x" })
		}, Fail, "19 of 20 acknowledged writes found, 1 lost"},
		"one failed and is there, one is unknown": {func(s *story) {
			s.every(isInsert("w3"), func(o *record.Op) { o.Outcome = record.Unknown })
			s.ops = append(s.ops, record.Op{Round: 1, Kind: "insert", Key: "w3", Value: "x", Outcome: record.Failed})
			s.every(reads("w3"), func(o *record.Op) { o.Value = "x" })
		}, Fail, "0 of 1 with unknown outcome found; 1 failed write there"},
		"inserts whose values are not told": {func(s *story) {
			s.every(func(o *record.Op) bool { return o.Kind == "insert" }, func(o *record.Op) { o.Value = "" })
		}, Pass, "20 of 20"},

		"registers that verify does not read": {func(s *story) { s.ops = append(s.ops, put("a", 1, 2, record.OK)) }, Pass, "20 of 20"},
		"a register":                          {func(s *story) { s.ops = append(s.ops, put("a", 1, 2, record.OK)); s.read("k", "a", "") }, Pass, "21 of 21"},
		"the last one": {func(s *story) {
			s.ops = append(s.ops, put("a", 1, 2, record.OK), put("b", 3, 4, record.OK))
			s.read("k", "b", "")
		}, Pass, "21 of 21"},
		"an older one": {func(s *story) {
			s.ops = append(s.ops, put("a", 1, 2, record.OK), put("b", 3, 4, record.OK))
			s.read("k", "a", "")
		}, Fail, "20 of 21 acknowledged writes found, 1 lost"},
		"an older one on one member": {func(s *story) {
			s.ops = append(s.ops, put("a", 1, 2, record.OK), put("b", 3, 4, record.OK))
			s.read("k", "a", "store-1")
			s.read("k", "b", "store-2")
		}, Pass, ""},
		"one of two at once": {func(s *story) {
			s.ops = append(s.ops, put("a", 1, 3, record.OK), put("b", 3, 4, record.OK))
			s.read("k", "a", "")
		}, Pass, ""},
		"an unknown one, however old": {func(s *story) {
			s.ops = append(s.ops, put("a", 1, 2, record.Unknown), put("b", 3, 4, record.OK))
			s.read("k", "a", "")
		}, Pass, "1 of 1 with unknown outcome found"},
		"a register that is gone": {func(s *story) { s.ops = append(s.ops, put("a", 1, 2, record.OK)); s.read("k", "", "") }, Fail, "1 lost"},
		"a value from nowhere":    {func(s *story) { s.ops = append(s.ops, put("a", 1, 2, record.OK)); s.read("k", "q", "") }, Fail, "1 lost"},
		"a failed put is there": {func(s *story) {
			s.ops = append(s.ops, put("a", 1, 2, record.OK), put("b", 3, 4, record.Failed))
			s.read("k", "b", "")
		}, Fail, "0 lost, 0 not read; 0 of 0 with unknown outcome found; 1 failed write there"},
		"a failed put of the same value": {func(s *story) {
			s.ops = append(s.ops, put("a", 1, 2, record.OK), put("a", 3, 4, record.Failed))
			s.read("k", "a", "")
		}, Pass, ""},
		"a failed put, and a value from before": {func(s *story) {
			s.ops = append(s.ops, put("b", 3, 4, record.Failed))
			s.read("k", "q", "")
		}, Pass, "20 of 20"},
		"a failed put of no value, and nothing there": {func(s *story) {
			s.ops = append(s.ops, put("", 3, 4, record.Failed))
			s.read("k", "", "")
		}, Pass, "20 of 20"},
		"a register whose value is not told": {func(s *story) {
			s.ops = append(s.ops, put("a", 1, 2, record.OK))
			s.read("k", "", "")
			s.ops[len(s.ops)-1].Found = flag(true)
		}, Pass, "21 of 21"},
		"read back by a get": {func(s *story) {
			s.every(func(o *record.Op) bool { return o.Verify }, func(o *record.Op) { o.Kind = "get" })
		}, Pass, "20 of 20"},
		"a get under load is no answer to verify": {func(s *story) {
			s.every(func(o *record.Op) bool { return o.Verify }, func(o *record.Op) { o.Kind, o.Verify = "get", false })
		}, Invalid, "verify read nothing"},
		"a register that was not read": {func(s *story) {
			s.ops = append(s.ops, put("a", 1, 2, record.OK))
			s.read("k", "a", "")
			s.every(reads("k"), unread)
		}, Invalid, "1 acknowledged write could not be read"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "no-lost-writes", NoLostWrites{Workload: "regs"})
			if c.spoil != nil {
				c.spoil(s)
			}
			f := s.want(t, c.want, c.says)
			if c.want == Fail {
				assert.Greater(t, len(f.Evidence), 1, "the write is shown")
				assert.NotEmpty(t, f.Evidence[1].Detail)
			} else {
				assert.NotContains(t, f.Summary, "failed write")
			}
			if name == "an older one" {
				assert.Contains(t, f.Evidence[1].Detail, `put k = "b" ok; `, "the one that is lost")
			}
		})
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	s := newStory()
	s.ask(t, "no-lost-writes", NoLostWrites{Workload: "regs"})
	s.every(func(o *record.Op) bool { return o.Verify }, absent)
	f := s.want(t, Fail, "0 of 20 acknowledged writes found, 20 lost")
	assert.Len(t, f.Evidence, 1+maxDetails)
	assert.Equal(t, 20.0, f.Evidence[0].Values["lost"])
	assert.Contains(t, f.Evidence[1].Detail, `insert w0 = "v0" ok; `)
	assert.Contains(t, f.Evidence[1].Detail, `read w0 by store-1 = nothing ok`)
}

func TestNoDuplicates(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"once each":           {nil, Pass, "0 of 20 keys found more than once; 0 acknowledged writes not read"},
		"twice on one member": {func(s *story) { s.every(reads("w3", "store-2"), func(o *record.Op) { o.Count = 2 }) }, Fail, "1 of 20 keys found more than once"},
		"not counted":         {func(s *story) { s.every(reads("w3", "store-2"), func(o *record.Op) { o.Count = 0 }) }, Invalid, "did not say how often 1 key stands"},
		"unread":              {func(s *story) { s.every(reads("w3"), unread) }, Invalid, "1 acknowledged write could not be read"},
		"unread, tried twice": {func(s *story) {
			s.every(reads("w3"), unread)
			s.ops = append(s.ops, record.Op{Round: 1, Kind: "insert", Key: "w3", Outcome: record.OK})
		}, Invalid, "1 acknowledged write could not be read"},
		"unknown and unread": {func(s *story) {
			s.every(reads("w3"), unread)
			s.every(isInsert("w3"), func(o *record.Op) { o.Outcome = record.Unknown })
		}, Pass, ""},
		"not there":     {func(s *story) { s.every(reads("w3"), absent) }, Pass, "0 of 19 keys"},
		"nothing there": {func(s *story) { s.every(func(o *record.Op) bool { return o.Verify }, absent) }, Invalid, "verify found nothing"},
		"all of them twice": {func(s *story) {
			s.every(func(o *record.Op) bool { return o.Verify }, func(o *record.Op) { o.Count = 2 })
		}, Fail, "20 of 20 keys found more than once"},
		"twice and unread": {func(s *story) { s.every(reads("w4"), unread); s.every(reads("w3"), func(o *record.Op) { o.Count = 3 }) }, Fail, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "no-duplicates", NoDuplicates{Workload: "regs"})
			if c.spoil != nil {
				c.spoil(s)
			}
			f := s.want(t, c.want, c.says)
			if c.want == Fail {
				twice := int(f.Evidence[0].Values["more than once"])
				require.Len(t, f.Evidence, 1+min(twice, maxDetails), "each is shown, up to a bound")
				assert.Contains(t, f.Evidence[1].Detail, " times ok")
			}
		})
	}
}

func TestMembersAgree(t *testing.T) {
	silence := func(s *story, member string) {
		s.every(func(o *record.Op) bool { return o.Verify && o.Member == member }, unread)
	}
	hold := func(s *story, links ...string) {
		s.plan.Rounds[0].Faults = append(s.plan.Rounds[0].Faults, plan.Fault{ID: "primary", Held: true, Occurrences: []plan.Occurrence{{}}})
		s.event(record.Event{T: 8 * time.Second, Kind: record.FaultStarted, Fault: "primary", Occurrence: 1})
		s.event(record.Event{T: 8 * time.Second, Kind: record.FaultInEffect, Fault: "primary", Occurrence: 1, Targets: []string{"store-1", "client"}, Links: links})
	}
	down := func(s *story) {
		s.event(record.Event{T: 8 * time.Second, Kind: record.NodeExited, Node: "store-1", Signal: "SIGKILL", Announced: true})
	}
	never := func(s *story, key string) {
		s.ops = slices.DeleteFunc(s.ops, func(o record.Op) bool { return reads(key)(&o) })
	}
	sever := func(s *story, kind string, links ...string) {
		s.plan.Rounds[0].Faults = append(s.plan.Rounds[0].Faults, plan.Fault{ID: kind, Kind: kind, Held: true, Occurrences: []plan.Occurrence{{}}})
		s.event(record.Event{T: 8 * time.Second, Kind: record.FaultStarted, Fault: kind, Occurrence: 1})
		s.event(record.Event{T: 8 * time.Second, Kind: record.FaultInEffect, Fault: kind, Occurrence: 1, Links: links})
	}
	for name, c := range map[string]struct {
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"they agree":           {nil, Pass, "0 keys differ of 20 among store-1, store-2, store-3"},
		"another value":        {func(s *story) { s.every(reads("w3", "store-2"), func(o *record.Op) { o.Value = "x" }) }, Fail, "1 key differ of 20"},
		"absent on one":        {func(s *story) { s.every(reads("w3", "store-2"), absent) }, Fail, "1 key differ"},
		"absent on all":        {func(s *story) { s.every(reads("w3"), absent) }, Pass, ""},
		"twice on one":         {func(s *story) { s.every(reads("w3", "store-3"), func(o *record.Op) { o.Count = 2 }) }, Fail, "1 key differ"},
		"the service":          {func(s *story) { s.read("w3", "zzz", ""); s.read("w3", "yyy", "gateway-1") }, Pass, "0 keys differ"},
		"one was not read":     {func(s *story) { silence(s, "store-3") }, Invalid, " / store-3 could not be read"},
		"two were not read":    {func(s *story) { silence(s, "store-3"); silence(s, "store-2") }, Invalid, "1 member of group store could be read, and it takes two"},
		"a key was not read":   {func(s *story) { s.every(reads("w3", "store-3"), unread) }, Invalid, "1 key of store-3 could not be read"},
		"a key nobody read":    {func(s *story) { s.every(reads("w3"), unread) }, Invalid, "1 key of store-1, 1 key of store-2, 1 key of store-3 could not be read"},
		"a key never asked of": {func(s *story) { never(s, "w3") }, Invalid, "1 key of store-1, 1 key of store-2, 1 key of store-3 could not be read"},
		"unknown, never asked of": {func(s *story) {
			never(s, "w3")
			s.every(isInsert("w3"), func(o *record.Op) { o.Outcome = record.Unknown })
		}, Pass, "0 keys differ of 19"},
		"asked of who is held down alone": {func(s *story) {
			silence(s, "store-1")
			hold(s)
			down(s)
			s.read("x", "", "store-1")
			s.every(reads("x"), unread)
		}, Pass, "0 keys differ of 20 among store-2, store-3"},
		"a register that was read": {func(s *story) {
			s.read("r0", "x", "store-1")
			s.read("r0", "y", "store-2")
			s.read("r0", "y", "store-3")
		}, Fail, "1 key differ of 21"},
		"all keys differ":      {func(s *story) { s.every(func(o *record.Op) bool { return o.Member == "store-2" }, absent) }, Fail, "20 keys differ of 20"},
		"the only member":      {func(s *story) { s.meta.Nodes = s.meta.Nodes[:1] }, Invalid, "1 member of group store could be read, and it takes two"},
		"differ and unread":    {func(s *story) { silence(s, "store-3"); s.every(reads("w3", "store-2"), absent) }, Fail, ""},
		"nobody knows members": {func(s *story) { s.meta.Nodes = nil }, Invalid, "does not say who belongs to group store"},
		"down by itself":       {func(s *story) { silence(s, "store-1"); down(s) }, Invalid, "store-1 could not be read"},
		"held down":            {func(s *story) { silence(s, "store-1"); hold(s); down(s) }, Pass, "among store-2, store-3; left out, held by a fault: store-1"},
		"held down, two differ": {func(s *story) {
			silence(s, "store-1")
			hold(s)
			down(s)
			s.every(reads("w3", "store-2"), absent)
		}, Fail, ""},
		"held, but up again": {func(s *story) {
			silence(s, "store-1")
			hold(s)
			down(s)
			s.event(record.Event{T: 9 * time.Second, Kind: record.NodeStarted, Node: "store-1"})
		}, Invalid, "store-1 could not be read"},
		"held down as verify begins": {func(s *story) {
			silence(s, "store-1")
			hold(s)
			s.event(record.Event{T: 12 * time.Second, Kind: record.NodeExited, Node: "store-1", Announced: true})
		}, Pass, "left out"},
		"held, down only after verify": {func(s *story) {
			silence(s, "store-1")
			hold(s)
			s.event(record.Event{T: 12500 * ms, Kind: record.NodeExited, Node: "store-1", Announced: true})
		}, Invalid, "store-1 could not be read"},
		"paused by a held fault": {func(s *story) {
			silence(s, "store-1")
			hold(s)
			s.event(record.Event{T: 8 * time.Second, Kind: record.NodePaused, Node: "store-1"})
		}, Pass, "left out"},
		"cut off by a held fault": {func(s *story) {
			hold(s, "store-2 -> store-1")
			s.every(reads("w3", "store-1"), absent)
		}, Pass, "left out, held by a fault: store-1"},
		"cut off as verify begins": {func(s *story) {
			hold(s, "store-2 -> store-1")
			s.events[len(s.events)-1].T = 12 * time.Second
			s.every(reads("w3", "store-1"), absent)
		}, Pass, "left out"},
		"cut off only while verify reads": {func(s *story) {
			hold(s, "store-2 -> store-1")
			s.events[len(s.events)-1].T = 12100 * ms
			s.every(reads("w3", "store-1"), absent)
		}, Fail, ""},
		"cut off from others than members": {func(s *story) {
			hold(s, "client -> store-1")
			s.every(reads("w3", "store-1"), absent)
		}, Fail, ""},
		"cut off until the heal": {func(s *story) {
			hold(s, "store-2 -> store-1")
			s.plan.Rounds[0].Faults[1].Held = false
			s.every(reads("w3", "store-1"), absent)
		}, Fail, ""},
		"its links dropped": {func(s *story) {
			sever(s, "drop", "store-1 -> store-2", "store-3 -> store-1")
			s.every(reads("w3", "store-1"), absent)
		}, Pass, "0 keys differ of 20 among store-2, store-3; left out, held by a fault: store-1"},
		"its links cut by two faults": {func(s *story) {
			sever(s, "drop", "store-1 -> store-2")
			sever(s, "reject", "store-1 -> store-3")
			s.every(reads("w3", "store-1"), absent)
		}, Pass, "left out, held by a fault: store-1"},
		"its links dropped, two others differ": {func(s *story) {
			sever(s, "drop", "store-1 -> store-2", "store-3 -> store-1")
			s.every(reads("w3", "store-2"), absent)
		}, Fail, "1 key differ of 20"},
		"its links dropped, two others differ by the third": {func(s *story) {
			sever(s, "drop", "store-1 -> store-2", "store-3 -> store-1")
			s.every(reads("w3", "store-3"), absent)
		}, Fail, "1 key differ of 20"},
		"its links dropped until the heal": {func(s *story) {
			sever(s, "drop", "store-1 -> store-2", "store-3 -> store-1")
			s.plan.Rounds[0].Faults[1].Held = false
			s.every(reads("w3", "store-1"), absent)
		}, Fail, ""},
		"its links delayed": {func(s *story) {
			sever(s, "delay", "store-1 -> store-2", "store-3 -> store-1")
			s.every(reads("w3", "store-1"), absent)
		}, Fail, ""},
		"a link dropped": {func(s *story) {
			sever(s, "drop", "store-2 -> store-1")
			s.every(reads("w3", "store-1"), absent)
		}, Invalid, "1 key differ between members that a held fault cuts off from each other"},
		"a link dropped, and they agree": {func(s *story) { sever(s, "drop", "store-2 -> store-1") }, Pass, "among store-1, store-2, store-3"},
		"a link dropped, another differs": {func(s *story) {
			sever(s, "drop", "store-2 -> store-1")
			s.every(reads("w3", "store-3"), absent)
		}, Fail, ""},
		"a link dropped, one did not answer, another differs": {func(s *story) {
			sever(s, "drop", "store-2 -> store-1")
			s.every(reads("w3", "store-1"), unread)
			s.every(reads("w3", "store-3"), absent)
		}, Fail, "1 key differ of 20"},
		"the link between two, all there are": {func(s *story) {
			s.meta.Nodes = s.meta.Nodes[:2]
			sever(s, "drop", "store-2 -> store-1")
		}, Invalid, "among none; left out, held by a fault: store-1, store-2 / 0 members of group store could be read"},
		"a link dropped, and another key differs": {func(s *story) {
			sever(s, "drop", "store-2 -> store-1")
			s.every(reads("w3", "store-1"), absent)
			s.every(reads("w4", "store-3"), absent)
		}, Fail, "2 keys differ"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "members-agree", MembersAgree{Workload: "regs", Group: "store"})
			if c.spoil != nil {
				c.spoil(s)
			}
			f := s.want(t, c.want, c.says)
			switch name {
			case "they agree":
				assert.NotContains(t, f.Summary, "left out")
				assert.Equal(t, 60, f.Evidence[0].Count)
				assert.Equal(t, map[string]float64{"keys": 20, "differ": 0, "members": 3}, f.Evidence[0].Values)
			case "all keys differ":
				assert.Len(t, f.Evidence, 1+maxDetails)
			}
		})
	}
}

func TestUniqueLeader(t *testing.T) {
	deaf := func(s *story, member string) {
		for i := range s.polls {
			if p := &s.polls[i]; p.Member == member {
				*p = record.LeaderPoll{T: p.T, Round: 1, Group: "store", Member: member, Error: "refused"}
			}
		}
	}
	claim := func(s *story, at time.Duration, member string, term uint64) {
		s.polls = append(s.polls, record.LeaderPoll{T: at, Round: 1, Group: "store", Member: member, Term: term, Claims: true, Leader: member})
	}
	for name, c := range map[string]struct {
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"one by one":        {nil, Pass, "120 claims of leadership in 2 terms of group store, never two members in one"},
		"two in one term":   {func(s *story) { claim(s, 5*time.Second, "store-3", 3) }, Fail, "store-2, store-3 of group store claimed to lead in term 3"},
		"far apart":         {func(s *story) { claim(s, 11999*ms, "store-3", 2) }, Fail, "store-1, store-3 of group store claimed to lead in term 2"},
		"two terms at once": {func(s *story) { claim(s, 5*time.Second, "store-1", 2) }, Pass, ""},
		"two such terms":    {func(s *story) { claim(s, 5*time.Second, "store-3", 3); claim(s, 5*time.Second, "store-3", 2) }, Fail, "and so in 1 term more"},
		// etcd learns its leader before its term: the claim is corrected in the next answer.
		"corrected at once": {func(s *story) { claim(s, 2950*ms, "store-2", 2) }, Pass, ""},
		"corrected after a failed poll": {func(s *story) {
			claim(s, 2950*ms, "store-2", 2)
			s.polls = append(s.polls, record.LeaderPoll{T: 2960 * ms, Round: 1, Group: "store", Member: "store-2", Error: "timeout"})
		}, Pass, ""},
		"corrected at once by one that never named another": {func(s *story) {
			for i := range s.polls {
				if p := &s.polls[i]; p.Member == "store-2" && !p.Claims {
					p.Leader = ""
				}
			}
			claim(s, 2950*ms, "store-2", 2)
		}, Pass, ""},
		"corrected by the last answer of all": {func(s *story) {
			s.polls = slices.DeleteFunc(s.polls, func(p record.LeaderPoll) bool { return p.T >= 2950*ms })
			claim(s, 2950*ms, "store-2", 2)
			claim(s, 2960*ms, "store-2", 3)
		}, Pass, ""},
		"corrected, in the first answer of all": {func(s *story) {
			s.polls = nil
			claim(s, 1*ms, "store-2", 1)
			claim(s, 2*ms, "store-2", 2)
			claim(s, 3*ms, "store-1", 1)
			s.polls = append(s.polls, record.LeaderPoll{T: 4 * ms, Round: 1, Group: "store", Member: "store-3", Term: 2, Leader: "store-2"})
		}, Pass, "2 claims of leadership in 2 terms"},
		// On a machine short of processor the correction comes some answers later.
		"corrected later": {func(s *story) {
			claim(s, 2950*ms, "store-2", 2)
			claim(s, 2960*ms, "store-2", 2)
			claim(s, 2970*ms, "store-2", 2)
		}, Pass, ""},
		"corrected later, but it never named the other": {func(s *story) {
			for i := range s.polls {
				if p := &s.polls[i]; p.Member == "store-2" && !p.Claims {
					p.Leader = ""
				}
			}
			claim(s, 2950*ms, "store-2", 2)
			claim(s, 2960*ms, "store-2", 2)
		}, Fail, "term 2"},
		"never corrected": {func(s *story) {
			s.polls = slices.DeleteFunc(s.polls, func(p record.LeaderPoll) bool { return p.Member == "store-2" && p.T >= 2950*ms })
			claim(s, 2950*ms, "store-2", 2)
			claim(s, 2960*ms, "store-2", 2)
		}, Invalid, "without a later answer that corrects or confirms it"},
		"confirmed by a later answer": {func(s *story) {
			s.polls = slices.DeleteFunc(s.polls, func(p record.LeaderPoll) bool { return p.Member == "store-2" && p.T >= 2950*ms })
			claim(s, 2950*ms, "store-2", 2)
			claim(s, 2960*ms, "store-2", 2)
			s.polls = append(s.polls, record.LeaderPoll{T: 2970 * ms, Round: 1, Group: "store", Member: "store-2", Term: 2, Leader: "store-1"})
		}, Fail, "term 2"},
		"given up, not corrected": {func(s *story) {
			claim(s, 2850*ms, "store-2", 2) // its next answer, at 2.9 s, claims nothing
		}, Fail, "term 2"},
		"no polls": {func(s *story) { s.polls = nil }, Invalid, "no member of group store ever said"},
		"other groups": {func(s *story) {
			for i := range s.polls {
				s.polls[i].Group = "x"
			}
		}, Invalid, "no member"},
		"only errors": {func(s *story) {
			for i := range s.polls {
				s.polls[i].Error = "refused"
			}
		}, Invalid, "no member"},
		"no claim": {func(s *story) {
			for i := range s.polls {
				s.polls[i].Claims = false
			}
		}, Invalid, "in 360 answers no member of group store ever claimed to lead"},
		"no terms": {func(s *story) {
			for i := range s.polls {
				s.polls[i].Term = 0
			}
		}, Invalid, "120 claims of leadership carry no term"},
		"one claim without a term": {func(s *story) { claim(s, 5*time.Second, "store-3", 0) }, Invalid, "1 claim of leadership carry no term"},
		"one never answers":        {func(s *story) { deaf(s, "store-3") }, Invalid, "store-3 never said who leads"},
		"one never answers, for it never ran": {func(s *story) {
			deaf(s, "store-3")
			s.drop(func(e record.Event) bool { return e.Node == "store-3" })
		}, Pass, ""},
		"one never answers, and ended before it was asked": {func(s *story) {
			deaf(s, "store-3")
			s.polls = slices.DeleteFunc(s.polls, func(p record.LeaderPoll) bool { return p.T < time.Second })
			s.event(record.Event{T: 500 * ms, Kind: record.NodeExited, Node: "store-3", Announced: true})
		}, Pass, ""},
		"one never answers, and ran when the first was asked": {func(s *story) {
			deaf(s, "store-3")
			s.polls = slices.DeleteFunc(s.polls, func(p record.LeaderPoll) bool {
				return p.T < time.Second || p.T == time.Second && p.Member != "store-1"
			})
			s.event(record.Event{T: time.Second, Kind: record.NodeExited, Node: "store-3", Announced: true})
		}, Invalid, "store-3 never said who leads"},
		"one never answers, and ran when the last was asked": {func(s *story) {
			deaf(s, "store-3")
			s.polls = slices.DeleteFunc(s.polls, func(p record.LeaderPoll) bool { return p.T == 11900*ms && p.Member != "store-1" })
			s.drop(func(e record.Event) bool { return e.Node == "store-3" })
			s.event(record.Event{T: 11900 * ms, Kind: record.NodeStarted, Node: "store-3"})
		}, Invalid, "store-3 never said who leads"},
		"one never answers, and two lead": {func(s *story) { deaf(s, "store-3"); claim(s, 5*time.Second, "store-1", 3) }, Fail, "store-1, store-2 of group store claimed to lead in term 3"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "unique-leader", UniqueLeader{Group: "store"})
			if c.spoil != nil {
				c.spoil(s)
			}
			f := s.want(t, c.want, c.says)
			if name == "one by one" {
				assert.Equal(t, map[string]float64{"claims": 120, "terms": 2, "claims corrected at once": 0}, f.Evidence[0].Values)
				assert.Equal(t, 360, f.Evidence[0].Count)
			}
			assert.Equal(t, name == "two such terms", strings.Contains(f.Summary, "more"))
			if c.want == Fail {
				assert.Contains(t, f.Evidence[1].Detail, "claimed term")
			}
			if name == "confirmed by a later answer" {
				assert.Equal(t, "store-1 claimed term 2 at 0s; store-2 claimed term 2 at 2.95s", f.Evidence[1].Detail, "the first claim of each")
			}
		})
	}
}

func TestExits(t *testing.T) {
	exit := func(at time.Duration, node, signal string, code *int, announced bool) record.Event {
		return record.Event{T: at, Kind: record.NodeExited, Node: node, Signal: signal, ExitCode: code, Announced: announced}
	}
	for name, c := range map[string]struct {
		allow []string
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"announced":              {nil, nil, Pass, "4 programs started, 1 death, all of them announced"},
		"a crash":                {nil, func(s *story) { s.event(exit(5*time.Second, "store-2", "SIGSEGV", nil, false)) }, Fail, "1 program that neither a fault nor the harness ended: store-2"},
		"an error":               {nil, func(s *story) { s.event(exit(5*time.Second, "store-2", "", status(1), false)) }, Fail, "store-2"},
		"an exit without reason": {nil, func(s *story) { s.event(exit(5*time.Second, "store-2", "", status(0), false)) }, Fail, "store-2"},
		"of unknown status":      {nil, func(s *story) { s.event(exit(5*time.Second, "store-2", "", nil, false)) }, Fail, "store-2"},
		"two of one": {nil, func(s *story) {
			s.event(exit(5*time.Second, "store-2", "", status(2), false))
			s.event(exit(6*time.Second, "store-2", "", status(2), false))
		}, Fail, "2 programs that neither a fault nor the harness ended: store-2"},
		"a job":                 {nil, func(s *story) { early(s); s.event(exit(ms, "init", "", status(0), false)) }, Pass, "1 finished job"},
		"a job that failed":     {nil, func(s *story) { early(s); s.event(exit(ms, "init", "", status(3), false)) }, Fail, "init"},
		"a job at the baseline": {nil, func(s *story) { early(s); s.event(exit(10*ms, "init", "", status(0), false)) }, Fail, "init"},
		"a job, never loaded": {nil, func(s *story) {
			s.drop(func(e record.Event) bool { return e.Phase == plan.PhaseBaseline })
			s.event(exit(ms, "init", "", status(0), false))
		}, Pass, "1 finished job"},
		"a crash, never loaded": {nil, func(s *story) {
			s.drop(func(e record.Event) bool { return e.Phase == plan.PhaseBaseline })
			s.event(exit(ms, "store-2", "", status(3), false))
		}, Invalid, "store-2 ended before anything was measured"},
		"many": {nil, func(s *story) {
			for range maxDetails + 1 {
				s.event(exit(5*time.Second, "store-2", "", status(2), false))
			}
		}, Fail, "11 programs that neither a fault nor the harness ended: store-2"},
		"allowed":         {[]string{"store-2"}, func(s *story) { s.event(exit(5*time.Second, "store-2", "", status(1), false)) }, Pass, "1 allowed"},
		"another allowed": {[]string{"store-1"}, func(s *story) { s.event(exit(5*time.Second, "store-12", "", status(1), false)) }, Fail, "store-12"},
		"its service":     {[]string{"gateway"}, func(s *story) { s.event(exit(5*time.Second, "gateway-2", "", status(1), false)) }, Pass, "1 allowed"},
		"no node at all":  {nil, func(s *story) { s.drop(func(e record.Event) bool { return e.Node != "" }) }, Invalid, "no start of a program"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "exits", Exits{Allow: c.allow})
			if c.spoil != nil {
				c.spoil(s)
			}
			f := s.want(t, c.want, c.says)
			if how := map[string]string{"a crash": "by SIGSEGV", "an error": "with status 1", "of unknown status": "with an unknown status"}[name]; how != "" {
				assert.Equal(t, "store-2 ended "+how+" at 5s", f.Evidence[1].Detail)
			}
			if c.want == Fail {
				assert.Len(t, f.Evidence, 1+min(int(f.Evidence[0].Values["not announced"]), maxDetails), "each is shown, up to a bound")
			}
			fs, _ := s.judge(t)
			assert.NotContains(t, fs, "exits", "not implicit when it is listed")
		})
	}
}

// Who is told to stop under load ends with status 0, in its grace; that nobody was told shows nothing.
func TestExitsClean(t *testing.T) {
	stop := func(s *story, at time.Duration, signal string, by string, code *int) {
		s.event(record.Event{T: at, Kind: record.NodeSignalled, Node: "gateway-1", Signal: signal})
		s.event(record.Event{T: at + 300*ms, Kind: record.NodeExited, Node: "gateway-1", Signal: by, ExitCode: code, Announced: true})
	}
	for name, c := range map[string]struct {
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"clean":             {func(s *story) { stop(s, 5*time.Second, "SIGTERM", "", status(0)) }, Pass, "; who was told to stop under load ended with status 0"},
		"with an error":     {func(s *story) { stop(s, 5*time.Second, "SIGTERM", "", status(1)) }, Fail, "gateway-1 was told to stop and ended with status 1; "},
		"too late":          {func(s *story) { stop(s, 5*time.Second, "SIGTERM", "SIGKILL", nil) }, Fail, "gateway-1 was told to stop and ended by SIGKILL"},
		"of unknown status": {func(s *story) { stop(s, 5*time.Second, "SIGTERM", "", nil) }, Fail, "with an unknown status"},
		"once of two": {func(s *story) {
			stop(s, 5*time.Second, "SIGTERM", "", status(1))
			s.event(record.Event{T: 6 * time.Second, Kind: record.NodeStarted, Node: "gateway-1"})
			stop(s, 7*time.Second, "SIGTERM", "", status(0))
		}, Fail, "gateway-1 was told to stop and ended with status 1; "},
		"not told": {nil, Invalid, "gateway was not told to stop under load"},
		"killed":   {func(s *story) { stop(s, 5*time.Second, "SIGKILL", "SIGKILL", nil) }, Invalid, "gateway was not told to stop under load"},
		"killed after that": {func(s *story) {
			stop(s, 5*time.Second, "SIGTERM", "", status(0))
			s.event(record.Event{T: 6 * time.Second, Kind: record.NodeStarted, Node: "gateway-1"})
			stop(s, 7*time.Second, "SIGKILL", "SIGKILL", nil)
		}, Pass, ""},
		"not under load": {func(s *story) { stop(s, 12500*ms, "SIGTERM", "", status(1)) }, Invalid, "gateway was not told to stop under load"},
		"nothing was broken": {func(s *story) {
			s.plan.Rounds[0].Faults = nil
			s.drop(func(e record.Event) bool { return e.Fault != "" })
		}, Pass, ""},
		"and a crash": {func(s *story) {
			stop(s, 5*time.Second, "SIGTERM", "", status(0))
			s.event(record.Event{T: 5 * time.Second, Kind: record.NodeExited, Node: "store-2", Signal: "SIGSEGV"})
		}, Fail, "store-2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "exits", Exits{Clean: []string{"gateway"}})
			if c.spoil != nil {
				c.spoil(s)
			}
			s.want(t, c.want, c.says)
		})
	}
}

// early moves the beginning of the baseline to 10 ms.
func early(s *story) { begin(s, plan.PhaseBaseline, 10*ms) }

// begin moves the beginning of a phase.
func begin(s *story, phase string, at time.Duration) {
	for i := range s.events {
		if e := &s.events[i]; e.Kind == record.PhaseBegin && e.Phase == phase {
			e.T = at
		}
	}
}

func TestExec(t *testing.T) {
	said := func(line string) record.Event {
		return record.Event{T: 12500 * ms, Kind: record.UserFinding, ID: "it", Data: []byte(line)}
	}
	ended := func(code int) record.Event {
		return record.Event{T: 12600 * ms, Kind: record.ExecEnd, ID: "it", ExitCode: &code, Evidence: "last line"}
	}
	pass, fail := said(`{"verdict":"pass","summary":"all 5 there","values":{"rows":5}}`), said(`{"verdict":"FAIL","summary":"row 7 is gone"}`)
	for name, c := range map[string]struct {
		events []record.Event
		want   Verdict
		says   string
	}{
		"it passes":                  {[]record.Event{pass, ended(0)}, Pass, "all 5 there (mydbload check printed 1 finding and exited with 0)"},
		"it says nothing":            {[]record.Event{ended(0)}, Pass, "printed 0 findings and exited with 0"},
		"it fails":                   {[]record.Event{pass, fail, ended(0)}, Fail, "row 7 is gone"},
		"it fails and exits so":      {[]record.Event{fail, ended(1)}, Fail, "row 7"},
		"it exits with an error":     {[]record.Event{ended(2)}, Invalid, "exited with 2 without a finding that fails: last line"},
		"passes, then an error":      {[]record.Event{pass, ended(2)}, Invalid, "exited with 2 without"},
		"it does not know":           {[]record.Event{said(`{"verdict":"invalid","summary":"no quorum"}`), ended(0)}, Invalid, "no quorum"},
		"it printed nonsense":        {[]record.Event{pass, {T: 12500 * ms, Kind: record.UserFinding, ID: "it", Error: "line 2 of its output is no JSON"}, ended(0)}, Invalid, "line 2 of its output"},
		"it printed other JSON":      {[]record.Event{said(`[1]`), ended(0)}, Invalid, "a line is no finding"},
		"it has another verdict":     {[]record.Event{said(`{"verdict":"ok"}`), ended(0)}, Invalid, `the verdict "ok"`},
		"it fails without a word":    {[]record.Event{said(`{"verdict":"fail"}`), ended(1)}, Fail, "no summary (mydbload check"},
		"it was killed":              {[]record.Event{pass, {T: 12600 * ms, Kind: record.ExecEnd, ID: "it", Signal: "SIGKILL", ExitCode: status(-1)}}, Invalid, "was ended by SIGKILL"},
		"it ended, nobody knows how": {[]record.Event{pass, {T: 12600 * ms, Kind: record.ExecEnd, ID: "it"}}, Invalid, "was ended by "},
		"it failed, then killed":     {[]record.Event{fail, {T: 12600 * ms, Kind: record.ExecEnd, ID: "it", Signal: "SIGKILL"}}, Fail, ""},
		"it could not be started":    {[]record.Event{{T: 12600 * ms, Kind: record.ExecEnd, ID: "it", Error: "not found"}}, Invalid, "could not be run: not found"},
		"it did not run":             {nil, Invalid, "did not run"},
		"others ran":                 {[]record.Event{{T: 12600 * ms, Kind: record.ExecEnd, ID: "other", ExitCode: status(0)}, {T: 5 * time.Second, Kind: record.ExecEnd, ID: "it", Fault: "it", ExitCode: status(0)}}, Invalid, "did not run"},
		"it failed, no end":          {[]record.Event{fail}, Fail, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "exec", Exec{Exec: []string{"mydbload", "check"}, In: "client"})
			for _, e := range c.events {
				s.event(e)
			}
			f := s.want(t, c.want, c.says)
			switch name {
			case "it says nothing":
				assert.Equal(t, "mydbload check printed 0 findings and exited with 0", f.Summary)
			case "it was killed":
				assert.Equal(t, "the program was ended by SIGKILL", f.Reason)
			}
		})
	}
	t.Run("failures are shown however many passed", func(t *testing.T) {
		s := newStory()
		s.ask(t, "exec", Exec{Exec: []string{"check"}})
		for i := range 20 {
			s.event(said(fmt.Sprintf(`{"verdict":"pass","summary":"n%d"}`, i)))
		}
		s.event(fail)
		s.event(ended(0))
		f := s.want(t, Fail)
		assert.Len(t, f.Evidence, maxDetails+1)
		assert.Equal(t, "FAIL: row 7 is gone", f.Evidence[maxDetails].What)
	})
}

// A workload may leave out whether there was a value, where the value or the count says it.
func TestFound(t *testing.T) {
	assert.True(t, found(&record.Op{Value: "v"}))
	assert.True(t, found(&record.Op{Count: 1}))
	assert.False(t, found(&record.Op{}))
	assert.True(t, found(&record.Op{Found: flag(true)}))
	assert.False(t, found(&record.Op{Found: flag(false), Value: "v"}))
}

func TestDescribe(t *testing.T) {
	for want, o := range map[string]record.Op{
		`1ms..2ms client 3: put k = "v" ok`:                         {Kind: "put", Key: "k", Value: "v", Outcome: record.OK},
		`1ms..2ms client 3: cas k from "a" to "b" unknown (reset)`:  {Kind: "cas", Key: "k", Old: "a", Value: "b", Outcome: record.Unknown, Error: "reset"},
		`1ms..2ms client 3: get k = nothing ok`:                     {Kind: "get", Key: "k", Outcome: record.OK},
		`1ms..2ms client 3: get k = ? failed`:                       {Kind: "get", Key: "k", Outcome: record.Failed},
		`1ms..2ms client 3: read k by m = "v" ok`:                   {Kind: "read", Key: "k", Value: "v", Member: "m", Count: 1, Outcome: record.OK},
		`1ms..2ms client 3: read k by the service = "v" 2 times ok`: {Kind: "read", Key: "k", Value: "v", Count: 2, Outcome: record.OK},
	} {
		o.Call, o.Return, o.Client = ms, 2*ms, 3
		assert.Equal(t, want, describe(&o))
	}
}
