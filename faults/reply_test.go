package faults

import (
	"testing"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRepliesAreProvedByWhatTheyAnswered(t *testing.T) {
	for _, c := range []struct{ kind, params, says string }{
		{"http-error", `{"from":"a","to":"b","status":503,"share":"30%"}`, "3 of 9 requests were answered with status 503, on 1 of 1 links"},
		{"grpc-error", `{"from":"a","to":"b","code":"UNAVAILABLE"}`, "3 of 9 requests were answered with status UNAVAILABLE, on 1 of 1 links"},
	} {
		f := newLinks()
		e, undo, err := inject(t.Context(), f, params(t, c.kind, c.params))
		require.NoError(t, err)
		_, err = e.Prove(t.Context())
		require.NoError(t, err)
		_, err = e.Bitten(t.Context())
		require.ErrorIs(t, err, ErrNotYet)
		require.ErrorContains(t, err, "nothing to act on")
		f.bytes = 9
		_, err = e.Bitten(t.Context())
		require.ErrorIs(t, err, ErrNotYet)
		require.ErrorContains(t, err, "none of the 9 requests")
		f.counted[cluster.Link{From: "a", To: "b"}] = 3
		said, err := e.Bitten(t.Context())
		require.NoError(t, err)
		assert.Equal(t, c.says, said)
		require.NoError(t, undo(t.Context()))
		assert.Equal(t, []cluster.RuleID{7}, f.removed)
	}
}

func TestWhatIsChosen(t *testing.T) {
	for text, want := range map[string]cluster.Reply{
		`{"from":"a","to":"b","status":500}`:                 {Share: 1},
		`{"from":"a","to":"b","status":500,"share":"12.5%"}`: {Share: 0.125},
		`{"from":"a","to":"b","status":500,"first":4}`:       {First: 4},
		`{"from":"a","to":"b","status":500,"every":3}`:       {Every: 3},
	} {
		f := newLinks()
		_, _, err := inject(t.Context(), f, params(t, "http-error", text))
		require.NoError(t, err)
		want.HTTP = &cluster.HTTPReply{Status: 500}
		assert.Equal(t, &want, f.rule.Reply, text)
	}
	f := newLinks()
	_, _, err := inject(t.Context(), f, params(t, "grpc-error", `{"from":"a","to":"b","code":"DATA_LOSS","method":"M$","message":"gone"}`))
	require.NoError(t, err)
	assert.Equal(t, &cluster.Reply{GRPC: &cluster.GRPCReply{Code: 15, Message: "gone"}, Path: "M$", Share: 1}, f.rule.Reply)
}
