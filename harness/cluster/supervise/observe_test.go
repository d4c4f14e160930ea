package supervise

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

// telling is a Router that has read calls.
type telling struct {
	Router
	calls []plane.Call
	read  []plane.Observed
}

func (r *telling) Calls(context.Context) (plane.Calls, error) {
	got := plane.Calls{Calls: r.calls}
	r.calls = nil
	return got, nil
}

func (r *telling) CallsEnd(context.Context) ([]plane.Observed, error) { return r.read, nil }

// TestCallsThatDidNotComeAreDropped has the plane count a call more on one link than it could tell of.
func TestCallsThatDidNotComeAreDropped(t *testing.T) {
	r := &telling{
		calls: []plane.Call{{From: "a", To: "b"}, {From: "a", To: "b"}, {From: "a", To: "c"}},
		read:  []plane.Observed{{From: "a", To: "b", Calls: 3}, {From: "a", To: "c", Calls: 5, Dropped: 4}, {From: "a", To: "d", Calls: 2}},
	}
	var read []cluster.Observed
	told := 0
	c := newCalls(r, func(b cluster.CallBatch) {
		require.NoError(t, b.Err)
		told += len(b.Calls)
		read = append(read, b.Read...)
	})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	c.run(gone)
	c.end(t.Context())
	require.Equal(t, 3, told)
	require.Equal(t, []cluster.Observed{
		{Link: cluster.Link{From: "a", To: "b"}, Calls: 3, Dropped: 1},
		{Link: cluster.Link{From: "a", To: "c"}, Calls: 5, Dropped: 4},
		{Link: cluster.Link{From: "a", To: "d"}, Calls: 2, Dropped: 2},
	}, read)
}

// silent is a Router that does not answer.
type silent struct{ Router }

func (silent) CallsEnd(ctx context.Context) ([]plane.Observed, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestAPlaneThatDoesNotAnswerDoesNotHoldTheEndUp: what calls there were is an error then.
func TestAPlaneThatDoesNotAnswerDoesNotHoldTheEndUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []error
		c := newCalls(silent{}, func(b cluster.CallBatch) { told = append(told, b.Err) })
		close(c.ended)
		c.end(t.Context())
		require.Len(t, told, 1)
		require.ErrorIs(t, told[0], context.DeadlineExceeded)
	})
}
