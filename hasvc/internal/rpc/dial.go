// Package rpc is how one service calls another: connection, balancing, retries and deadlines, one mechanism to a file.
package rpc

import (
	"encoding/json"
	"fmt"
	"path"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/mtls"
)

const (
	// gRPC's default back-off of 1 s would keep a replica that came back out of use for as long: 20 to 100 ms are right for
	// services in one place, with a multiplier and jitter, or all callers would come back in step.
	reconnectFirst = 50 * time.Millisecond
	reconnectMost  = time.Second
	pingEvery      = 10 * time.Second // gRPC allows no less
	pingTimeout    = time.Second      // and sets TCP_USER_TIMEOUT to it: unanswered data ends a connection after it
	// A server that is told to stop first waits for each connection whose client has not introduced itself; gRPC's default is 120 s. As
	// long as an HTTP client may take for its headers.
	handshake = 2 * time.Second
)

// Dial returns a connection to target. It does not wait until there is one. Metrics may be nil.
func Dial(target string, res resolver.Builder, cfg config.Config, m *Metrics, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	sc, err := serviceConfig(cfg)
	if err != nil {
		return nil, err
	}
	service := path.Base(target)
	secure, err := mtls.Client(cfg.TLS, service)
	if err != nil {
		return nil, err
	}
	breaker := newBreaker(service, cfg, m)
	attempt := attempts{service: service, metrics: m}
	conn, err := grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithResolvers(res),
		grpc.WithTransportCredentials(secure),
		grpc.WithDefaultServiceConfig(sc),
		grpc.WithDisableServiceConfig(), // none from the resolver
		// Retries are made by the interceptor: gRPC's own know no timeout of one attempt, so they cannot get away from a
		// replica that is stopped but still connected. What never reached a replica gRPC sends again all the same.
		grpc.WithDisableRetry(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reconnectFirst, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMost},
			MinConnectTimeout: cfg.Connect,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithIdleTimeout(0),
		// From the outside in: what repeats, what refuses, and what sees each attempt that is really made.
		grpc.WithChainUnaryInterceptor(newRetrier(cfg, m).unary, breaker.unary, newLeaks(cfg.Defects).unary, attempt.unary),
		grpc.WithChainStreamInterceptor(breaker.stream, attempt.stream),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", target, err)
	}
	return conn, nil
}

// ServerOptions are what every gRPC server of this program has.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		// Half of what clients do, or the server would end their connections for pinging too much.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery / 2, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.ConnectionTimeout(handshake),
	}
}

// Balanced makes a client of something else, such as etcd, spread its calls over all endpoints, leave out those that do not
// answer, and take another for the next attempt of what ctx from Attempts stands for.
func Balanced() ([]grpc.DialOption, error) {
	sc, err := serviceConfig(config.Config{Balancer: "round_robin"})
	if err != nil {
		return nil, err
	}
	return []grpc.DialOption{grpc.WithDefaultServiceConfig(sc), grpc.WithDisableServiceConfig()}, nil
}

// serviceConfig chooses the balancer.
func serviceConfig(cfg config.Config) (string, error) {
	policy := balancerName(cfg.Balancer, cfg.Defects.Has(defect.NoOutlier))
	if cfg.Defects.Has(defect.PickFirst) {
		policy = "pick_first"
	}
	b, err := json.Marshal(map[string]any{"loadBalancingConfig": []map[string]any{{policy: map[string]any{}}}})
	return string(b), err
}
