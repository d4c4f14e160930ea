// Package role puts the mechanisms together: what a replica of each role consists of, in which order it starts, and in
// which order it stops.
package role

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

// Addrs is where a replica can be reached.
type Addrs struct {
	HTTP string
	GRPC string // empty for a gateway
}

// Role runs a replica until ctx ends, then stops it gracefully. listening is called once, as soon as its ports are open. A nil
// error means that it was asked to stop and every request in flight was finished.
type Role func(ctx context.Context, cfg config.Config, log *zap.Logger, listening func(Addrs)) error

// Names of the roles, with the default address of their HTTP port.
var (
	Roles = map[string]Role{"edge": Edge, "gateway": Gateway, "orders": Orders, "inventory": Inventory}
	HTTP  = map[string]string{"edge": ":8080", "gateway": ":8080", "orders": ":8081", "inventory": ":8081"}
)

const (
	// pulseMost is how long a key goroutine may be silent before the replica is not ready.
	pulseMost = 5 * time.Second
	// slowStart is the defect of that name.
	slowStart = 3 * time.Second
)

// advertised is the address by which others reach a listener of this replica.
func advertised(cfg config.Config, l net.Listener) (string, error) {
	if cfg.Advertise != "" {
		return cfg.Advertise, nil
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return "", fmt.Errorf("listening on %s, which is no TCP address; set HASVC_ADVERTISE", l.Addr())
	}
	if !addr.IP.IsUnspecified() {
		return addr.String(), nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("asking for the host's name; set HASVC_ADVERTISE: %w", err)
	}
	return net.JoinHostPort(host, fmt.Sprint(addr.Port)), nil
}

func listen(addr string) (*net.TCPListener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	return l.(*net.TCPListener), nil //nolint:forcetypeassert // "tcp" has no other
}

// instance names the replica in the registry. The address is unique where the host's name need not be.
func instance(addr string) string { return strings.ReplaceAll(addr, "/", "_") }

// warmUp is where the defect slow-start spends its time, before the replica listens.
func warmUp(ctx context.Context, cfg config.Config) {
	if cfg.Defects.Has(defect.SlowStart) {
		select {
		case <-ctx.Done():
		case <-time.After(slowStart):
		}
	}
}
