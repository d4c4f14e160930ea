package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// ToxicEnds are what every toxic has beside its own attributes, in toxiproxy's words.
type ToxicEnds struct {
	Ends
	Stream   string `json:"stream,omitempty"`   // upstream (what the client sends) | downstream (what it receives; the default)
	Toxicity string `json:"toxicity,omitempty"` // share of connections, "30%"; default 100%
}

func (t ToxicEnds) validate() error {
	errs := []error{t.Ends.validate()}
	if t.Stream != "" && t.Stream != "upstream" && t.Stream != "downstream" {
		errs = append(errs, fmt.Errorf("stream %q: upstream (what the client sends) or downstream (what it receives)", t.Stream))
	}
	if _, err := t.share(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (t ToxicEnds) stream() string {
	if t.Stream == "" {
		return "downstream"
	}
	return t.Stream
}

// share is the toxicity in (0,1].
func (t ToxicEnds) share() (float64, error) {
	if t.Toxicity == "" {
		return 1, nil
	}
	p, ok := strings.CutSuffix(strings.TrimSpace(t.Toxicity), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(p), 64)
	if !ok || err != nil || !(v > 0 && v <= 100) {
		return 0, fmt.Errorf("toxicity %q: a share of connections, more than 0%% and at most 100%%", t.Toxicity)
	}
	return v / 100, nil
}

// ToxicLinks lets the plan know, before the start, which links must go through the link core.
type ToxicLinks interface {
	ToxicLinks() Ends
}

// ToxicLinks are the ends of the links that go through the core.
func (t ToxicEnds) ToxicLinks() Ends { return t.Ends }

// toxic is what one of toxiproxy's toxics is made of, and how it is shown.
type toxic struct {
	kind       string
	attributes map[string]int64 // in toxiproxy's units
	unit       string           // what its counter counts
	patience   time.Duration
	// prove and gone are those of a toxic that strikes every connection.
	prove func(f *rule) func(context.Context) (string, error)
	gone  func(f *rule) func(context.Context) (string, error)
}

// inject adds a toxic.
func (t ToxicEnds) inject(ctx context.Context, env *Env, x toxic) (*Effect, error) {
	links, err := t.links(ctx, env)
	if err != nil {
		return nil, err
	}
	share, err := t.share()
	if err != nil {
		return nil, err
	}
	attributes, err := json.Marshal(x.attributes)
	if err != nil {
		return nil, err
	}
	f, err := inflict(ctx, env, links, cluster.Rule{Toxic: &cluster.Toxic{
		Type: x.kind, Stream: t.stream(), Toxicity: share, Attributes: attributes, Seed: env.Seed}})
	if err != nil {
		return nil, err
	}
	e := &Effect{Links: links, Bitten: f.bitten(x.unit)}
	if share < 1 || x.prove == nil {
		// A single probe may be one of those that are spared: what the toxic acted on is the proof, and comes at the end.
		e.Prove = func(ctx context.Context) (string, error) {
			if share < 1 {
				return fmt.Sprintf("the toxic is on %d links; which connections it strikes is drawn", len(links)), nil
			}
			return fmt.Sprintf("the toxic is on %d links; what it strikes is more than a probe can be", len(links)), nil
		}
		e.Healed = healed(env, f.lifted)
		return e, nil
	}
	e.Prove, e.Patience = x.prove(f), x.patience
	e.Healed = healed(env, func(_ *Env, links []cluster.Link) proof { return x.gone(f.on(links)) })
	return e, nil
}

// look is how the links are probed, and judge what a probe must have seen.
type (
	look  func(ctx context.Context, links []cluster.Link) ([]sighting, error)
	judge func(s sighting) error
)

// each polls probes until every link has shown once what it must: a link that has is not probed again. Then done says
// whether that was the rule's doing.
func (f *rule) each(look look, ok judge, done func(context.Context) error, say func(seen []sighting) string) func(context.Context) (string, error) {
	left := slices.Clone(f.links)
	var shown []sighting
	return func(ctx context.Context) (string, error) {
		seen, err := look(ctx, left)
		if err != nil {
			return "", err
		}
		left = nil
		var why error
		for _, s := range seen {
			if err := ok(s); err != nil {
				why, left = NotYet("a probe over %s: %v", s.link, err), append(left, s.link)
			} else {
				shown = append(shown, s)
			}
		}
		if why != nil {
			return "", why
		}
		if err := done(ctx); err != nil {
			left, shown = slices.Clone(f.links), nil
			return "", err
		}
		return say(shown), nil
	}
}

// nothing is the end of a proof that the rule has no part in.
func nothing(context.Context) error { return nil }

// span is the shortest and the longest of what probes took.
func span(seen []sighting, of func(sighting) time.Duration) string {
	least, most := time.Duration(1<<62), time.Duration(0)
	for _, s := range seen {
		least, most = min(least, of(s)), max(most, of(s))
	}
	return fmt.Sprintf("%v to %v over %d links", least.Round(10*time.Microsecond), most.Round(10*time.Microsecond), len(seen))
}

// transfer probes links with n bytes: upstream they are sent and acknowledged with one byte, downstream they are asked
// for. The sighting's echo is the time from the first byte sent to the last received, or to the end of the
// connection; got is what came back.
func (t ToxicEnds) transfer(f *rule, n int, wait time.Duration) look {
	up := t.stream() == "upstream"
	return func(ctx context.Context, links []cluster.Link) ([]sighting, error) {
		return probeWith(ctx, f.env.Cluster, links, wait, func(conn net.Conn) { serveTransfer(conn, up, n) },
			func(conn net.Conn, s *sighting) {
				send, receive := 1, n
				if up {
					send, receive = n, 1
				}
				begin := time.Now()
				var sending sync.WaitGroup
				var sent error
				sending.Go(func() { _, sent = conn.Write(make([]byte, send)) })
				k, err := io.CopyN(io.Discard, conn, int64(receive))
				s.echo, s.got = time.Since(begin), int(k)
				if err != nil {
					s.err = err
					conn.Close() // what is still being sent
				}
				sending.Wait()
				if s.err == nil {
					s.err = sent
				}
			})
	}
}

// serveTransfer is the other end.
func serveTransfer(conn net.Conn, up bool, n int) {
	receive, send := 1, n
	if up {
		receive, send = n, 1
	}
	if _, err := io.CopyN(io.Discard, conn, int64(receive)); err != nil {
		return
	}
	if _, err := conn.Write(make([]byte, send)); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, conn) // the client closes first, so that no byte is lost to a reset
}

// carried proves that n bytes get over every link whole, in less than a time if one is given.
func (t ToxicEnds) carried(f *rule, n int, under time.Duration) func(context.Context) (string, error) {
	return f.each(t.transfer(f, n, under+2*probeTimeout), func(s sighting) error {
		switch {
		case s.err != nil:
			return s.err
		case under > 0 && s.echo >= under:
			return fmt.Errorf("%d bytes still took %v", n, s.echo)
		}
		return nil
	}, nothing, func(seen []sighting) string {
		return fmt.Sprintf("%d bytes got through in %s", n, span(seen, sighting.whole))
	})
}

// cutOff reports that the peer, or who stands in its place, ended the connection.
func cutOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || wasReset(err)
}

func wasReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
