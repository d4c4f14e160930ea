package rpc

import (
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	ejectAfter = 3 // failures in a row
	ejectFirst = 500 * time.Millisecond
	ejectMost  = 4 * time.Second
)

// outlier watches the outcomes at one endpoint. A replica that is stopped keeps its connection, so only requests find out;
// after a few the others carry the load, and one request at a time tries it again. (gRPC's outlier detection needs its
// xDS packages: 13 MB.)
type outlier struct {
	mu    sync.Mutex
	row   int       // failures in a row
	until time.Time // ejected until then
	span  time.Duration
}

// state is where the endpoint stands: in use, ejected, or due for one request that tries it again. Asking for one takes that
// request: the next one finds it ejected for a longer span.
func (o *outlier) state(now time.Time, try bool) (ejected, due bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.span == 0:
		return false, false
	case !try, now.Before(o.until):
		return true, false
	}
	o.span = min(2*o.span, ejectMost)
	o.until = now.Add(o.span)
	return true, true
}

// saw counts an outcome. That a replica says that it is well is no outcome: one that fails all requests may say so all the time.
func (o *outlier) saw(d balancer.DoneInfo, check bool, now time.Time) {
	if status.Code(d.Err) == codes.Canceled {
		return // the caller went away: that says nothing
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case failed(d):
		o.row++
	case check, status.Code(d.Err) == codes.Unavailable: // what it says of something behind it says nothing of itself
		return
	default:
		o.row, o.span = 0, 0
		return
	}
	if o.row >= ejectAfter && o.span == 0 {
		o.span = ejectFirst
		o.until = now.Add(o.span)
	}
}

// failed reports whether the replica itself did not answer. One that answers UNAVAILABLE with the request not to retry has
// said that the trouble is behind it.
func failed(d balancer.DoneInfo) bool {
	switch status.Code(d.Err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return !pushedBack(d.Trailer)
	}
	return false
}
