package rpc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/inventoryv1"
	"github.com/hasvc/gauntlet/hasvc/internal/logs"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
)

// repeatable are the methods that do no harm when they take effect twice: reads, CreateOrder because of its idempotency key,
// and Reserve because of the order's id. PutRegister is not: a first attempt that was only slow would undo what others wrote in between.
var repeatable = map[string]bool{
	ordersv1.Orders_CreateOrder_FullMethodName:   true,
	ordersv1.Orders_GetOrder_FullMethodName:      true,
	ordersv1.Orders_GetRegister_FullMethodName:   true,
	ordersv1.Orders_GetStock_FullMethodName:      true,
	inventoryv1.Inventory_Reserve_FullMethodName: true,
	inventoryv1.Inventory_Level_FullMethodName:   true,
	grpc_health_v1.Health_Check_FullMethodName:   true,
}

const (
	backoffFirst = 10 * time.Millisecond
	backoffMost  = 200 * time.Millisecond
	stormTries   = 20
	// abandonedFor bounds what the defect retry-non-idempotent leaves behind.
	abandonedFor = 10 * time.Second
)

// retrier repeats calls that may be repeated: an attempt has a timeout of its own, waits grow with jitter, and a budget
// bounds the whole.
type retrier struct {
	try     time.Duration
	tries   int
	budget  *budget
	defects defect.Set
	metrics *Metrics
}

func newRetrier(cfg config.Config, m *Metrics) *retrier {
	return &retrier{try: cfg.Try, tries: cfg.Tries, budget: newBudget(cfg.Budget), defects: cfg.Defects, metrics: m}
}

// unary is the interceptor.
func (r *retrier) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	call := func(ctx context.Context, opts ...grpc.CallOption) error {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	may := repeatable[method]
	switch {
	case r.defects.Has(defect.RetryStorm):
		return r.storm(ctx, call, opts)
	case r.defects.Has(defect.RetryNonIdempotent) && !may:
		may = true
		call = func(ctx context.Context, opts ...grpc.CallOption) error {
			return abandoning(ctx, method, req, reply, cc, invoke, opts)
		}
	case r.defects.Has(defect.NoDeadline):
		return call(ctx, opts...) // no attempt ever ends, so there is no second one
	}
	// Checks of health come whether there are requests or not: paid in, they would buy retries for a load that is none.
	free := method == grpc_health_v1.Health_Check_FullMethodName
	if !free {
		r.budget.request()
	}
	if !may {
		return call(ctx, opts...)
	}
	ctx = Attempts(ctx)
	wait := backoffFirst
	for n := 1; ; n++ {
		again, err := r.once(ctx, call, opts)
		if err == nil || !again || n == r.tries {
			return err
		}
		if !free && !r.budget.retry() {
			r.metrics.overspent()
			return err
		}
		if !pause(ctx, rand.N(wait)) {
			return err
		}
		wait = min(2*wait, backoffMost)
		r.metrics.retried(method)
		logs.From(ctx).Debug("retrying", zap.String("of", method), zap.Int("attempt", n+1), zap.Error(err))
	}
}

// once makes one attempt and says whether another makes sense.
func (r *retrier) once(ctx context.Context, call func(context.Context, ...grpc.CallOption) error, opts []grpc.CallOption) (again bool, err error) {
	attempt, cancel := context.WithTimeout(ctx, r.try)
	defer cancel()
	var trailer metadata.MD
	err = call(attempt, append(opts[:len(opts):len(opts)], grpc.Trailer(&trailer))...)
	if ctx.Err() != nil || Refused(err) { // asking the breaker again and again would only be a storm within
		return false, err
	}
	switch status.Code(err) {
	case codes.Unavailable:
		return !pushedBack(trailer), err
	case codes.DeadlineExceeded:
		return true, err // of the attempt: the request's own has not passed
	}
	return false, err
}

// pause waits, and reports whether there is time left after it.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// storm is the defect retry-storm: again and again, whatever the answer, with neither wait nor budget.
func (r *retrier) storm(ctx context.Context, call func(context.Context, ...grpc.CallOption) error, opts []grpc.CallOption) error {
	var err error
	for n := range stormTries {
		if n > 0 {
			r.metrics.retried("storm")
		}
		if err = call(ctx, opts...); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// abandoning is the defect retry-non-idempotent: an attempt that takes too long is left alone, not cancelled, and may yet
// take effect after the one that follows it.
func abandoning(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts []grpc.CallOption) error {
	target, ok := reply.(proto.Message)
	if !ok {
		return fmt.Errorf("calling %s: the reply is no protobuf message", method)
	}
	own := target.ProtoReflect().New().Interface() // an attempt that is left alone must not write to the caller's
	done := make(chan error, 1)
	left, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonedFor)
	go func() {
		defer cancel()
		done <- invoke(left, method, req, own, cc, opts...)
	}()
	select {
	case err := <-done:
		if err == nil {
			proto.Merge(target, own)
		}
		return err
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}
