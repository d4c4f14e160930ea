package nodeinit

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFrames(t *testing.T) {
	header, body, err := EncodeFrame(Request{ID: 7, Op: OpKill}, 3)
	require.NoError(t, err)
	n, fds, err := DecodeHeader(header)
	require.NoError(t, err)
	require.Equal(t, []int{len(body), 3}, []int{n, fds})
	var r Request
	require.NoError(t, json.Unmarshal(body, &r))
	require.Equal(t, uint64(7), r.ID)

	_, _, err = EncodeFrame(Request{}, MaxDescriptors+1)
	require.Error(t, err)
	for _, bad := range [][]byte{nil, {1, 2, 3}, {255, 255, 255, 255, 0, 0, 0, 0}, {0, 0, 0, 0, 255, 0, 0, 0}} {
		_, _, err := DecodeHeader(bad)
		require.Error(t, err, bad)
	}
}

func TestSplit(t *testing.T) {
	require.Equal(t, []string{"a", "..", "b"}, split("//a/./../b/"))
	require.Empty(t, split("/"))
}
