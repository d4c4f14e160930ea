package plane

import (
	"net/netip"
	"testing"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func anyRule(t *rapid.T) cluster.Rule {
	return rapid.SampledFrom([]cluster.Rule{{Drop: true}, {Reject: true}, {Delay: &cluster.Delay{Time: 1}}, {Toxic: &cluster.Toxic{}}}).Draw(t, "rule")
}

// TestRulesCompose applies and removes rules at random, keeps the filter's sets as the table says, and compares them
// at each step with what the rules that hold ask for.
func TestRulesCompose(t *testing.T) {
	var links []AddrLink
	for i := byte(1); i <= 3; i++ {
		for j := byte(1); j <= 3; j++ {
			if i != j {
				links = append(links, AddrLink{netip.AddrFrom4([4]byte{10, 0, 0, i}), netip.AddrFrom4([4]byte{10, 0, 0, j})})
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		table := newRuleTable()
		sets := map[member]bool{}
		held := map[*rule]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"apply": func(t *rapid.T) {
				r := &rule{what: anyRule(t), links: rapid.SliceOfNDistinct(rapid.SampledFrom(links), 1, -1, rapid.ID).Draw(t, "links")}
				var err error
				r.does, err = actionOf(r.what)
				require.NoError(t, err)
				for _, m := range table.add(r) {
					require.False(t, sets[m], "%v entered twice", m)
					sets[m] = true
				}
				held[r] = true
			},
			"remove": func(t *rapid.T) {
				if len(held) == 0 {
					t.Skip("no rule holds")
				}
				var all []*rule
				for _, r := range table.rules {
					all = append(all, r)
				}
				r := rapid.SampledFrom(sortedByID(all)).Draw(t, "which")
				for _, m := range table.remove(r) {
					require.True(t, sets[m], "%v left without having entered", m)
					delete(sets, m)
				}
				delete(held, r)
			},
			"": func(t *rapid.T) {
				require.Len(t, table.rules, len(held))
				for _, l := range links {
					asked := map[action]bool{}
					strongest := pass
					for r := range held {
						for _, x := range r.links {
							if x == l {
								asked[r.does] = true
								strongest = max(strongest, r.does)
							}
						}
					}
					for _, a := range []action{delay, reject, drop} {
						require.Equal(t, asked[a], sets[member{l, a}], "%v in the set of %v", l, a)
					}
					require.Equal(t, strongest, table.effect(l))
				}
			},
		})
	})
}

func sortedByID(rs []*rule) []*rule {
	for i := range rs {
		for j := i; j > 0 && rs[j].id < rs[j-1].id; j-- {
			rs[j], rs[j-1] = rs[j-1], rs[j]
		}
	}
	return rs
}

func TestARuleHasExactlyOneField(t *testing.T) {
	for _, r := range []cluster.Rule{{}, {Drop: true, Reject: true}, {Drop: true, Delay: &cluster.Delay{}}, {Delay: &cluster.Delay{}, Toxic: &cluster.Toxic{}}} {
		_, err := actionOf(r)
		require.Error(t, err, "%+v", r)
	}
}
