package scrape

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// One scrape may be missed, and the next a little late; two may not.
func TestHoles(t *testing.T) {
	for last, want := range map[time.Duration]int{2*Interval + Interval/4: 0, maxGap: 0, maxGap + time.Millisecond: 1, 3 * Interval: 1} {
		assert.Len(t, holes("a", []time.Duration{0, Interval, Interval + last}, 0, Interval+last), want, "%v", last)
	}
}
