// Package scrape records the metrics of a run: it scrapes every node that exposes some with an embedded Prometheus,
// adds what nodes and the harness use and send, and answers PromQL, while the run goes on and from its directory after.
//
// It is the one package that links Prometheus, whose packages promise no stable API, and which costs every binary that
// links it seconds of linking.
//
// The time series are a TSDB that any Prometheus opens: point its --storage.tsdb.path at a copy of the directory. Their
// times are those of the run's monotonic clock, as a wall clock that began with it: Meta.Start + offset.
package scrape

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/hasvc/gauntlet/harness/record"
)

// Interval between two scrapes of a node.
const Interval = 200 * time.Millisecond

// Recorder writes the metrics of a run as it goes on.
type Recorder struct {
	start time.Time // offset 0, with its monotonic reading
	db    *tsdb.DB
	query querier
	loads *loadFigures
	began starts

	mu     sync.Mutex
	closed bool
	err    error // of Close
}

// NewRecorder begins the metrics of the run that w writes.
func NewRecorder(w *record.Writer) (*Recorder, error) {
	start := time.Now().Add(-w.Now())
	db, err := tsdb.Open(filepath.Join(w.Dir(), record.MetricsDir), nil, nil, options(), nil)
	if err != nil {
		return nil, fmt.Errorf("begin the metrics of the run: %w", err)
	}
	db.DisableCompactions() // Close makes the one block
	r := &Recorder{start: start, db: db, loads: newLoadFigures(), began: starts{of: map[storage.SeriesRef]int64{}}}
	r.query = querier{engine: newEngine(), data: db, start: start.Round(0)}
	w.OnRequest(r.loads.add)
	return r, nil
}

func options() *tsdb.Options {
	o := tsdb.DefaultOptions()
	o.NoLockfile = true // a run directory has one writer already
	o.RetentionDuration = math.MaxInt64 / 2
	o.StripeSize = 512 // thousands of series, not millions
	// A counter that is born with its first value rises by it only if there was a 0 before.
	o.EnableSTAsZeroSample = true
	return o
}

// Close ends the metrics: they become one block, which is a tenth of the log that they were written to and needs no
// replay. After an error, and when the harness is killed, the log stays, from which Open reads as well.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return r.err
	}
	r.closed = true
	if r.err = r.close(); r.err != nil {
		r.err = fmt.Errorf("end the metrics of the run: %w", r.err)
	}
	return r.err
}

func (r *Recorder) close() error {
	head := r.db.Head()
	if head.NumSeries() == 0 || head.MaxTime() < head.MinTime() {
		return r.db.Close()
	}
	if err := r.db.CompactHead(tsdb.NewRangeHead(head, head.MinTime(), head.MaxTime())); err != nil {
		return errors.Join(err, r.db.Close())
	}
	blocks := len(r.db.Blocks())
	dir := r.db.Dir()
	if err := r.db.Close(); err != nil || blocks == 0 {
		return err
	}
	return errors.Join(os.RemoveAll(filepath.Join(dir, "wal")), os.RemoveAll(filepath.Join(dir, "chunks_head")))
}

// AppenderV2 implements storage.AppendableV2.
//
// Prometheus stamps what it scrapes with the wall clock, which may be set while a run goes on; the record has one clock.
func (r *Recorder) AppenderV2(ctx context.Context) storage.AppenderV2 {
	now := time.Now()
	run := r.start.Round(0).Add(now.Sub(r.start))
	return &appender{AppenderV2: r.db.AppenderV2(ctx), ahead: now.Round(0).Sub(run).Milliseconds(), known: &r.began}
}

// appender appends by the run's clock.
type appender struct {
	storage.AppenderV2
	ahead int64 // of the wall clock before the run's, ms
	known *starts
	began map[storage.SeriesRef]int64 // series that said in this scrape that they began
}

// Append implements storage.AppenderV2. A start time becomes a 0 at that time, where nothing is known of the series since then.
//
// It is the program's clock that says so, which may be off: what began later than it was scraped began just before, and a start time counts
// once, for a 0 among the values of a counter would be a counter that began anew.
func (a *appender) Append(ref storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, opts storage.AppendV2Options) (storage.SeriesRef, error) {
	said := st
	switch {
	case st == 0:
	case ref != 0 && a.known.is(ref, st):
		st = 0
	default:
		st = min(st, t-1) - a.ahead
	}
	ref, err := a.AppenderV2.Append(ref, ls, st, t-a.ahead, v, h, fh, opts)
	if st != 0 && err == nil {
		if a.began == nil {
			a.began = map[storage.SeriesRef]int64{}
		}
		a.began[ref] = said
	}
	return ref, err
}

// Commit implements storage.AppenderV2.
func (a *appender) Commit() error {
	err := a.AppenderV2.Commit()
	if err == nil {
		a.known.add(a.began)
	}
	return err
}

// starts are the start times that series have said, by the programs' clocks.
type starts struct {
	mu sync.Mutex
	of map[storage.SeriesRef]int64
}

func (s *starts) is(ref storage.SeriesRef, st int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[ref] == st
}

func (s *starts) add(began map[storage.SeriesRef]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.of, began)
}
