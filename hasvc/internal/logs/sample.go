package logs

import (
	"hash/fnv"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	calmShare    = 1.0 / 100 // of traces whose debug lines are written while things go well
	troubleShare = 1.0 / 4   // and while they do not; all would be a load of its own at the wrong moment
	troubleFrom  = 5         // warnings and errors a minute; more than that is trouble
)

// Sampled writes lines of info and above, and the debug lines of a share of the traces: of a small one while things go well,
// of a larger one while more than a few errors a minute are logged, and of the small one again after it. The same traces are
// chosen in every service. Where the level is debug already, all lines are written.
func Sampled(core zapcore.Core) zapcore.Core {
	return &sampled{Core: core, errors: &perMinute{}, clock: time.Now}
}

type sampled struct {
	zapcore.Core
	errors *perMinute
	clock  func() time.Time
	place  float64 // where the trace of this logger's lines lies, from 0 to 1; 0: they belong to none
}

// Enabled implements zapcore.Core.
func (s *sampled) Enabled(level zapcore.Level) bool {
	return level >= zapcore.DebugLevel
}

// With implements zapcore.Core.
func (s *sampled) With(fields []zap.Field) zapcore.Core {
	out := *s
	out.Core = s.Core.With(fields)
	for _, f := range fields {
		if f.Key == "traceId" {
			out.place = placeOf(f.String)
		}
	}
	return &out
}

// placeOf a trace among all, from 0 to 1.
func placeOf(id string) float64 {
	h := fnv.New64a()
	h.Write([]byte(id)) // never fails
	// FNV's high bits hardly differ where only the last letters of the ids do.
	x := h.Sum64()
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	return (float64(x>>11) + 1) / (1 << 53)
}

// Check implements zapcore.Core.
func (s *sampled) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Level >= zapcore.WarnLevel {
		s.errors.add(s.clock())
	}
	switch {
	case s.Core.Enabled(e.Level):
		return ce.AddCore(e, s)
	case e.Level == zapcore.DebugLevel && s.Core.Enabled(zapcore.InfoLevel) && s.chosen():
		return ce.AddCore(e, s)
	}
	return ce
}

// chosen says whether the debug lines of this logger's trace are written now.
func (s *sampled) chosen() bool {
	if s.place == 0 || s.place > troubleShare {
		return false
	}
	return s.place <= calmShare || s.errors.count(s.clock()) > troubleFrom
}

// perMinute counts in a window that slides by the second.
type perMinute struct {
	mu      sync.Mutex
	buckets [60]int
	last    int64 // the second of the last bucket
}

func (p *perMinute) add(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slide(now)
	p.buckets[p.last%60]++
}

func (p *perMinute) count(now time.Time) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slide(now)
	for _, b := range p.buckets {
		n += b
	}
	return n
}

// slide empties the seconds that have passed since.
func (p *perMinute) slide(now time.Time) {
	s := now.Unix()
	for range min(s-p.last, int64(len(p.buckets))) {
		p.last++
		p.buckets[p.last%60] = 0
	}
	p.last = max(p.last, s)
}
