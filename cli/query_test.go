package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/record"
)

// unscraped are metrics of a node that was last scraped a second before it is asked for.
type unscraped struct{ record.Metrics }

func (unscraped) Interval() time.Duration { return 200 * time.Millisecond }

func (unscraped) At(string, time.Duration) ([]record.Sample, error) { return []record.Sample{{}}, nil }

func (u unscraped) Gaps(from, to time.Duration) ([]record.Gap, error) {
	if to-from > 5*u.Interval()/2 {
		return []record.Gap{{Node: "api", From: from, To: to}}, nil
	}
	return nil, nil
}

// What is asked of one moment says so when nobody looked then.
func TestQueryOfAMomentInAGap(t *testing.T) {
	var out bytes.Buffer
	q := &query{instant: true, at: 10 * time.Second}
	require.NoError(t, q.ask(&out, &record.Run{Metrics: unscraped{}}, "up"))
	require.Contains(t, out.String(), "api")
}
