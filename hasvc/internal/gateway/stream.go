package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/logs"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
	"github.com/hasvc/gauntlet/hasvc/internal/rpc"
)

// streamEnd is the last line of a stream that the gateway ends: whoever goes on elsewhere with ?after= misses nothing.
type streamEnd struct {
	End   string `json:"end"`
	After int64  `json:"after"`
}

// streamStock sends every change of a stock as a JSON line, from the level as it is or after a revision, for as long as the client
// listens. Behind it the stream goes over from replica to replica, without a gap and without a repetition.
func (s *Server) streamStock(w http.ResponseWriter, r *http.Request) error {
	if err := text("sku", r.PathValue("sku")); err != nil {
		return err
	}
	if err := s.limiter.Wait(r.Context(), r, "stream_stock"); err != nil {
		return err
	}
	lines := &lines{to: w, control: http.NewResponseController(w)}
	if v := r.URL.Query().Get("after"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return problem(http.StatusBadRequest, "after is a revision that was answered before")
		}
		lines.after = n
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if s.Streams != nil {
		defer context.AfterFunc(s.Streams, cancel)()
	}
	err := rpc.Resume(ctx, s.cfg, func(ctx context.Context, taken func()) (bool, error) {
		return s.followStock(ctx, taken, r.PathValue("sku"), lines)
	})
	switch {
	case r.Context().Err() != nil:
		return nil // nobody is left to tell
	case s.Streams != nil && s.Streams.Err() != nil:
		return lines.write(streamEnd{End: "this replica is about to stop; go on at another one", After: lines.after})
	case !lines.begun:
		return err
	}
	logs.From(r.Context()).Warn("a stream broke off", zap.Error(err))
	panic(http.ErrAbortHandler) // the only way to tell the client, who would take a proper end for the end
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
	after   int64 // the last revision that was sent
	begun   bool
}

// begin sends the headers; from then on an error has no status.
func (l *lines) begin() error {
	if l.begun {
		return nil
	}
	l.begun = true
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
