package replicas_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster/replicas"
	"github.com/hasvc/gauntlet/harness/cluster/replicas/replicastest"
)

// Who goes to the members of a group goes to each as often as to any other, also with a connection or two.
func TestMembersOfAGroupInTurn(t *testing.T) {
	top := replicastest.New(t)
	members := []string{"store-2", "store-3", "store-1"}
	for i, m := range members {
		top.Member(m, "store", func(string) http.Handler { return http.NotFoundHandler() })
		top.Spec().Services[i].Expose = []int{8082 - i}
	}
	set, err := replicas.New(top, "store", 0, top.Ready)
	require.NoError(t, err)
	var got []string
	for n := range 300 {
		next, err := set.Next()
		require.NoError(t, err)
		got = append(got, next.Name)
		require.Equal(t, got[n%3], next.Name, "turn %d", n)
		require.Equal(t, "store:8082", set.Host(), "the port of the first")
	}
	require.ElementsMatch(t, members, got[:3])

	// With none ready it is anybody's turn.
	for _, m := range members {
		top.Node(m).SetReady(false)
	}
	var then []string
	for range 3 {
		next, err := set.Next()
		require.NoError(t, err)
		then = append(then, next.Name)
	}
	require.ElementsMatch(t, members, then)
}
