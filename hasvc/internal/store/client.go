// Package store keeps orders and registers in etcd, one mechanism to a file: the client that survives the loss of a
// member, attempts with a timeout each, when a write counts as done, and what makes a repeated one harmless.
package store

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/rpc"
)

const (
	// A member that is cut off (not dead: that one refuses at once) must not hold its connection for minutes. gRPC sets
	// TCP_USER_TIMEOUT to the keepalive timeout, so unanswered data ends the connection after it; pings themselves come
	// no more often than every 10 s, gRPC's lower bound.
	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = time.Second
	connectTimeout   = time.Second
	// gRPC's default back-off begins at 1 s, which is longer than an election.
	reconnectFirst = 50 * time.Millisecond
	reconnectMost  = time.Second
	// The client's own retries repeat a write, too, when an answer is DEADLINE_EXCEEDED while its context still has time, and
	// do not tell. Whether an attempt may have taken effect must be known here: one attempt to a call.
	onlyAttempt = 1
)

// Client connects to all members of etcd; calls go to them in turn. It returns without waiting for any.
func Client(ctx context.Context, cfg config.Config, log *zap.Logger) (*clientv3.Client, error) {
	endpoints := cfg.Etcd
	if cfg.Defects.Has(defect.SingleEndpoint) {
		leader, err := onlyLeader(ctx, cfg, log)
		if err != nil {
			return nil, err
		}
		endpoints = []string{leader}
	}
	return dial(endpoints, log)
}

func dial(endpoints []string, log *zap.Logger, more ...grpc.DialOption) (*clientv3.Client, error) {
	// etcd's client takes members in turn, dead or alive as long as they are connected; ours leaves out what does not answer.
	balanced, err := rpc.Balanced()
	if err != nil {
		return nil, err
	}
	more = append(more, balanced...)
	c, err := clientv3.New(clientv3.Config{
		Endpoints:            endpoints,
		DialKeepAliveTime:    keepAliveTime,
		DialKeepAliveTimeout: keepAliveTimeout,
		MaxUnaryRetries:      onlyAttempt,
		Logger:               log.Named("etcd").WithOptions(zap.IncreaseLevel(zap.ErrorLevel)),
		DialOptions: append(more, grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reconnectFirst, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMost},
			MinConnectTimeout: connectTimeout,
		})),
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to etcd at %v: %w", endpoints, err)
	}
	return c, nil
}

// onlyLeader is the defect single-endpoint: it waits for a leader and knows no other member from then on.
func onlyLeader(ctx context.Context, cfg config.Config, log *zap.Logger) (string, error) {
	c, err := dial(cfg.Etcd, log)
	if err != nil {
		return "", err
	}
	defer c.Close()
	for {
		for _, e := range cfg.Etcd {
			askCtx, cancel := context.WithTimeout(ctx, cfg.Ready)
			st, err := c.Status(askCtx, e)
			cancel()
			if err == nil && st.Leader != 0 && st.Leader == st.Header.MemberId {
				return e, nil
			}
		}
		if err := sleep(ctx, reconnectFirst); err != nil {
			return "", fmt.Errorf("looking for etcd's leader: %w", err)
		}
	}
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
