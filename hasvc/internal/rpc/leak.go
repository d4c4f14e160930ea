package rpc

import (
	"context"
	"os"
	"sync"

	"google.golang.org/grpc"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

// leaks is the defects goroutine-leak and fd-leak: each call that fails leaves something behind, as an error path does that
// forgets who waits for it, or what it has opened. Without them it keeps nothing.
type leaks struct {
	goroutines, descriptors bool

	mu   sync.Mutex
	open []*os.File // what is reachable is not closed by the garbage collector
}

func newLeaks(defects defect.Set) *leaks {
	return &leaks{goroutines: defects.Has(defect.GoroutineLeak), descriptors: defects.Has(defect.FDLeak)}
}

func (l *leaks) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if err != nil && l.goroutines {
		told := make(chan error)
		go func() { told <- err }() // nobody asks
	}
	if err != nil && l.descriptors {
		if f, openErr := os.Open(os.DevNull); openErr == nil { // none left: then nothing more can leak
			l.mu.Lock()
			l.open = append(l.open, f)
			l.mu.Unlock()
		}
	}
	return err
}
