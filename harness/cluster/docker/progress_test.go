package docker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProgress(t *testing.T) {
	var said []string
	began := time.Now()
	p := progress{say: func(line string) { said = append(said, line) }, nodes: 4, last: began}
	for _, at := range []time.Duration{0, progressEvery - 1, progressEvery, 2*progressEvery - 1, 3 * progressEvery} {
		p.nodeMade(began.Add(at)) // the last is one that scaling adds
	}
	require.Equal(t, []string{"3 of 4 nodes are made"}, said)

	silent := progress{nodes: 1}
	silent.nodeMade(began) // nobody asked
	silent.line("making %s", "something")
}
