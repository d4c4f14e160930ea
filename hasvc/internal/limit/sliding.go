package limit

import (
	"time"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
)

// sliding counts in a window that slides: the count of the fixed window before is taken for evenly spread, and weighs as
// much as it still overlaps. Two numbers stand for a log of every request.
type sliding struct {
	window       time.Duration
	allowed      float64
	begin        time.Time
	before, this float64
}

func newSliding(c config.Limit) policy {
	window, allowed := windowOf(c)
	return &sliding{window: window, allowed: allowed}
}

func (s *sliding) take(now time.Time) (time.Duration, bool) {
	switch passed := now.Sub(s.begin); {
	case passed < 0, passed >= 2*s.window: // as counter does
		s.begin, s.before, s.this = now.Truncate(s.window), 0, 0
	case passed >= s.window:
		s.begin, s.before, s.this = s.begin.Add(s.window), s.this, 0
	}
	left := 1 - float64(now.Sub(s.begin))/float64(s.window) // of the window before
	if s.before*left+s.this < s.allowed {
		s.this++
		return 0, true
	}
	if room := s.allowed - s.this; room > 0 { // when less of the window before is left; there is one, or there would be a place
		return time.Duration((left-room/s.before)*float64(s.window)) + moment, false
	}
	return time.Duration(left*float64(s.window)) + moment, false
}

// moment is after the one at which there is just no place yet.
const moment = time.Microsecond
