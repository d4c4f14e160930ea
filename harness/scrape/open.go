package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/hasvc/gauntlet/harness/record"
)

// Metrics are those of a run directory. It implements record.Metrics. The directory is only read, and when the first
// question comes. Its methods may be called from several goroutines, one at a time.
type Metrics struct {
	run *record.Run

	mu      sync.Mutex
	query   *querier // nil until it is opened
	closers []io.Closer
	err     error
}

// Open gives a run its metrics. It returns nil for a run that recorded none.
func Open(run *record.Run) *Metrics {
	if _, err := os.Stat(filepath.Join(run.Dir, record.MetricsDir)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &Metrics{run: run}
}

// Close lets go of the files. What is asked afterwards opens them again.
func (m *Metrics) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for i := len(m.closers) - 1; i >= 0; i-- {
		errs = append(errs, m.closers[i].Close())
	}
	m.query, m.closers, m.err = nil, nil, nil
	return errors.Join(errs...)
}

// opened returns the data. mu is held.
func (m *Metrics) opened() (*querier, error) {
	if m.query == nil && m.err == nil {
		if m.err = m.open(); m.err != nil {
			m.err = fmt.Errorf("read the metrics of the run: %w", m.err)
		}
	}
	return m.query, m.err
}

func (m *Metrics) open() error {
	dir := filepath.Join(m.run.Dir, record.MetricsDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var all sources
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil {
			continue
		}
		b, err := tsdb.OpenBlock(nil, filepath.Join(dir, e.Name()), nil, nil)
		if err != nil {
			return err
		}
		m.closers = append(m.closers, b)
		all = append(all, func(mint, maxt int64) (storage.Querier, error) { return tsdb.NewBlockQuerier(b, mint, maxt) })
	}
	if len(all) == 0 {
		db, err := m.replay(dir)
		if err != nil {
			return err
		}
		all = append(all, db.Querier)
	}
	m.query = &querier{engine: newEngine(), data: all, start: m.run.Meta.Start}
	return nil
}

// replay opens a log that no block was made of: that of a run that was cut off. Opening repairs a torn end, and so
// writes: it is done to a copy.
func (m *Metrics) replay(dir string) (*tsdb.DB, error) {
	tmp, err := os.MkdirTemp("", "gauntlet-metrics-")
	if err != nil {
		return nil, err
	}
	m.closers = append(m.closers, removal(tmp))
	for _, part := range []string{"wal", "chunks_head"} {
		if err := os.CopyFS(filepath.Join(tmp, part), os.DirFS(filepath.Join(dir, part))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	db, err := tsdb.Open(tmp, nil, nil, options(), nil)
	if err != nil {
		return nil, err
	}
	db.DisableCompactions()
	m.closers = append(m.closers, db)
	return db, nil
}

// removal is a directory that is removed when it is closed.
type removal string

func (r removal) Close() error { return os.RemoveAll(string(r)) }

// sources are blocks, or a log.
type sources []func(mint, maxt int64) (storage.Querier, error)

// Querier implements storage.Queryable.
func (s sources) Querier(mint, maxt int64) (storage.Querier, error) {
	var qs []storage.Querier
	for _, open := range s {
		q, err := open(mint, maxt)
		if err != nil {
			for _, q := range qs {
				q.Close()
			}
			return nil, err
		}
		qs = append(qs, q)
	}
	return storage.NewMergeQuerier(qs, nil, storage.ChainedSeriesMerge), nil
}

// At implements record.Metrics.
func (m *Metrics) At(expr string, at time.Duration) ([]record.Sample, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, err := m.opened()
	if err != nil {
		return nil, err
	}
	return q.at(context.Background(), expr, at)
}

// Range implements record.Metrics.
func (m *Metrics) Range(expr string, from, to, step time.Duration) ([]record.Series, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, err := m.opened()
	if err != nil {
		return nil, err
	}
	return q.between(context.Background(), expr, from, to, step)
}

// Names implements record.Metrics.
func (m *Metrics) Names() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, err := m.opened()
	if err != nil {
		return nil, err
	}
	return q.names(context.Background())
}

// Interval implements record.Metrics.
func (m *Metrics) Interval() time.Duration { return Interval }

// Bounds are the times of the first and the last scrape.
func (m *Metrics) Bounds() (from, to time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, err := m.opened()
	if err != nil {
		return 0, 0, err
	}
	scrapes, err := q.scrapes(math.MinInt64, math.MaxInt64)
	if err != nil {
		return 0, 0, err
	}
	from, to = math.MaxInt64, math.MinInt64
	for _, ts := range scrapes {
		if len(ts) > 0 {
			from, to = min(from, ts[0]), max(to, ts[len(ts)-1])
		}
	}
	if from > to {
		return 0, 0, errors.New("nothing was scraped")
	}
	return from, to, nil
}
