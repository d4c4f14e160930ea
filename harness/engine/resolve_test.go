package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPickIsAPureFunctionOfSeedAndMembers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := []string{"a", "b", "c", "d", "e"}
		free := rapid.SliceOfNDistinct(rapid.SampledFrom(members), 1, 5, rapid.ID).Draw(t, "free")
		p := plan.Pick(rapid.SampledFrom([]string{"", "all", "1", "2", "40%", "majority", "minority", "follower"}).Draw(t, "pick"))
		seed := rapid.Uint64().Draw(t, "seed")
		target := plan.Target{Group: "g", Pick: p}
		one, err1 := pick(target, members, append([]string(nil), free...), "c", seed)
		two, err2 := pick(target, members, append([]string(nil), free...), "c", seed)
		assert.Equal(t, err1 == nil, err2 == nil)
		assert.Equal(t, one, two)
		want := map[plan.Pick]int{"": len(free), "all": len(free), "1": 1, "2": 2, "40%": 2, "majority": 3, "minority": 2, "follower": 1}[p]
		if err1 == nil {
			assert.Len(t, one, want)
			assert.Subset(t, free, one)
		}
		if p == "follower" {
			assert.NotContains(t, one, "c")
		}
	})
}

func TestPickSaysWhyItCannot(t *testing.T) {
	_, err := pick(plan.Target{Group: "g", Pick: "2"}, []string{"a", "b"}, []string{"a"}, "", 1)
	require.ErrorContains(t, err, "2 of g: wanted 2, and only 1 of [a b]")
	_, err = pick(plan.Target{Group: "g", Pick: plan.PickLeader}, []string{"a", "b"}, []string{"a"}, "b", 1)
	require.ErrorContains(t, err, "the leader b is held")
}

func TestLeaderIsTheHighestTermThatAMajorityConfirms(t *testing.T) {
	now := time.Now()
	v := func(leader string, term uint64) view { return view{at: now, leader: leader, term: term} }
	members := []string{"a", "b", "c"}
	for _, c := range []struct {
		name  string
		views map[string]view
		want  string
	}{
		{"all agree", map[string]view{"a": v("a", 2), "b": v("a", 2), "c": v("a", 2)}, "a"},
		{"one still believes in the old one", map[string]view{"a": v("a", 2), "b": v("b", 3), "c": v("b", 3)}, "b"},
		{"no majority", map[string]view{"a": v("a", 2), "b": v("b", 3), "c": {at: now, err: errors.New("refused")}}, ""},
		{"answers too old", map[string]view{"a": {at: now.Add(-time.Second), leader: "a", term: 2}, "b": v("a", 2), "c": {at: now.Add(-time.Second), leader: "a", term: 2}}, ""},
		{"the same leader in different terms", map[string]view{"a": v("a", 2), "b": v("a", 3), "c": v("", 3)}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := elect(members, c.views, now)
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.want == "", err != nil)
		})
	}
}
