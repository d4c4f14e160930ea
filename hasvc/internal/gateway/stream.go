package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/logs"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
	"github.com/hasvc/gauntlet/hasvc/internal/requests"
	"github.com/hasvc/gauntlet/hasvc/internal/rpc"
)

// streamEnd is the last line of a stream that the gateway ends: whoever goes on elsewhere with ?after= misses nothing.
type streamEnd struct {
	End   string `json:"end"`
	After int64  `json:"after"`
}

// errOver ends a stream whose client asked for no more of it.
var errOver = errors.New("the stream has lasted as long as was asked")

// streamStock sends every change of a stock as a JSON line, from the level as it is or after a revision, for as long as the client
// listens or has asked for. Behind it the stream goes over from replica to replica, without a gap and without a repetition.
func (s *Server) streamStock(w http.ResponseWriter, r *http.Request) error {
	if err := text("sku", r.PathValue("sku")); err != nil {
		return err
	}
	begins, err := s.timeOf(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	// No deadline of ctx: the request's time is for the beginning of a stream, which may last longer.
	late := time.AfterFunc(begins, func() { cancel(requests.ErrLate) })
	defer late.Stop()
	if err := s.limiter.Wait(ctx, r, "stream_stock"); err != nil {
		return err
	}
	after, lasts, err := streamed(r.URL.Query())
	if err != nil {
		return err
	}
	// It is no deadline: orders would have it too, and an end that it makes looks like a break from here.
	over := time.AfterFunc(math.MaxInt64, func() { cancel(errOver) }) // it is set when the stream begins
	defer over.Stop()
	lines := &lines{to: w, control: http.NewResponseController(w), after: after, late: late, over: over, lasts: lasts}
	if s.Streams != nil {
		defer context.AfterFunc(s.Streams, func() { cancel(nil) })()
	}
	err = rpc.Resume(ctx, s.cfg, func(ctx context.Context, taken func()) (bool, error) {
		return s.followStock(ctx, taken, r.PathValue("sku"), lines)
	})
	switch {
	case r.Context().Err() != nil:
		return nil // nobody is left to tell
	case s.Streams != nil && s.Streams.Err() != nil:
		return lines.write(streamEnd{End: "this replica is about to stop; go on at another one", After: lines.after})
	case errors.Is(context.Cause(ctx), requests.ErrLate):
		return requests.ErrLate
	case errors.Is(context.Cause(ctx), errOver):
		return lines.write(streamEnd{End: errOver.Error(), After: lines.after})
	case !lines.begun:
		return err
	}
	logs.From(r.Context()).Warn("a stream broke off", zap.Error(err))
	panic(http.ErrAbortHandler) // the only way to tell the client, who would take a proper end for the end
}

// streamed is what is asked of a stream: the revision that it goes on behind, and how long it lasts from its beginning on; 0: until its
// client leaves.
func streamed(q url.Values) (after int64, lasts time.Duration, err error) {
	if v := q.Get("after"); v != "" {
		if after, err = strconv.ParseInt(v, 10, 64); err != nil || after < 0 {
			return 0, 0, problem(http.StatusBadRequest, "after is a revision that was answered before")
		}
	}
	if v := q.Get("for"); v != "" {
		if lasts, err = time.ParseDuration(v); err != nil || lasts <= 0 {
			return 0, 0, problem(http.StatusBadRequest, "for is how long the stream lasts, such as 30s")
		}
	}
	return after, lasts, nil
}

// followStock reads one stream of orders to its end.
func (s *Server) followStock(ctx context.Context, taken func(), sku string, out *lines) (progress bool, err error) {
	in, err := s.orders.WatchStock(ctx, &ordersv1.WatchStockRequest{Sku: sku, AfterRevision: out.after})
	if err != nil {
		return false, err
	}
	if header, err := in.Header(); err == nil && header != nil { // accepted; the first change may be long in coming
		taken()
		if err := out.begin(); err != nil {
			return false, err
		}
	}
	for {
		got, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return progress, status.Error(codes.Unavailable, "orders ended the stream")
		}
		if err != nil {
			return progress, err
		}
		if err := out.write(stock(got)); err != nil {
			return progress, err
		}
		out.after, progress = got.GetRevision(), true
	}
}

// lines is an answer of JSON lines, each sent at once.
type lines struct {
	to      http.ResponseWriter
	control *http.ResponseController
	after   int64         // the last revision that was sent
	late    *time.Timer   // until they have begun
	over    *time.Timer   // ends them
	lasts   time.Duration // from their beginning to that; 0: until the client leaves
	begun   bool
}

// begin sends the headers; from then on an error has no status.
func (l *lines) begin() error {
	if l.begun {
		return nil
	}
	if !l.late.Stop() {
		return requests.ErrLate
	}
	l.begun = true
	if l.lasts > 0 {
		l.over.Reset(l.lasts)
	}
	l.to.Header().Set("Content-Type", "application/x-ndjson")
	l.to.WriteHeader(http.StatusOK)
	return l.control.Flush()
}

func (l *lines) write(line any) error {
	if err := l.begin(); err != nil {
		return err
	}
	if err := json.NewEncoder(l.to).Encode(line); err != nil {
		return err
	}
	return l.control.Flush()
}
