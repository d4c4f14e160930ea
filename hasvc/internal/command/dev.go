package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/etcdbin"
	"github.com/hasvc/gauntlet/hasvc/internal/role"
)

// devRoles in the order in which they are of use; they wait for one another all the same.
var devRoles = []string{"inventory", "orders", "gateway", "edge"}

// dev runs one of each role in this process, on loopback, with an etcd beside it whose data are gone afterwards. (etcd's server
// cannot be imported: its module has replace directives.) HASVC_ variables mean what they mean to a single role; HASVC_HTTP
// is the edge's address, and the others choose theirs. Logs go to stderr.
func dev(ctx context.Context, c call) int {
	if !c.noArguments("dev") {
		return exitUsage
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	c.stderr = zapcore.Lock(zapcore.AddSync(c.stderr)) // the roles have a logger each, and etcd writes too
	etcd, endEtcd, err := devEtcd(ctx, c.stderr)
	if err != nil {
		fmt.Fprintf(c.stderr, "hasvc dev: %v\n", err)
		return exitFailed
	}
	defer endEtcd()
	fmt.Fprintf(c.stdout, "etcd       %s\n", etcd)

	var wg sync.WaitGroup
	var mu sync.Mutex // of stdout and of failed
	var failed error
	for _, name := range devRoles {
		cfg, err := config.Parse(c.environ, devEdge)
		if err != nil {
			fmt.Fprintf(c.stderr, "hasvc dev: %v\n", err)
			stop()
			wg.Wait()
			return exitUsage
		}
		cfg.Etcd, cfg.GRPC, cfg.Inventory = []string{etcd}, "127.0.0.1:0", true
		if name != "edge" {
			cfg.HTTP = "127.0.0.1:0"
		}
		log := newLog(c.stderr, cfg.Level).With(zap.String("service", name), zap.String("node", name))
		wg.Go(func() {
			err := role.Roles[name](ctx, cfg, log, func(a role.Addrs) {
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintf(c.stdout, "%-10s http://%s %s\n", name, a.HTTP, a.GRPC)
			})
			if err != nil {
				mu.Lock()
				failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
				mu.Unlock()
				stop() // one that ended is missed by the others
			}
		})
	}
	wg.Wait()
	if failed != nil {
		fmt.Fprintf(c.stderr, "hasvc dev: %v\n", failed)
		return exitFailed
	}
	return exitOK
}

const (
	devEdge   = "127.0.0.1:8080" // where the examples of docs/hasvc.md send their requests
	etcdStart = 30 * time.Second
)

// devEtcd starts an etcd of one member on loopback.
func devEtcd(ctx context.Context, log io.Writer) (url string, end func(), err error) {
	bin, err := etcdbin.Path()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "hasvc-dev-")
	if err != nil {
		return "", nil, fmt.Errorf("making a directory for etcd: %w", err)
	}
	client, err := freeURL()
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	peer, err := freeURL()
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	cmd := exec.Command(bin)
	cmd.Env = append(os.Environ(), "ETCD_NAME=dev", "ETCD_DATA_DIR="+filepath.Join(dir, "data"), "ETCD_INITIAL_CLUSTER=dev="+peer,
		"ETCD_LISTEN_CLIENT_URLS="+client, "ETCD_ADVERTISE_CLIENT_URLS="+client,
		"ETCD_LISTEN_PEER_URLS="+peer, "ETCD_INITIAL_ADVERTISE_PEER_URLS="+peer, "ETCD_LOG_LEVEL=error")
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // Ctrl-C is for the roles, which need it to the last
	if err := cmd.Start(); err != nil {
		return "", nil, errors.Join(fmt.Errorf("starting etcd: %w", err), os.RemoveAll(dir))
	}
	end = func() {
		_ = cmd.Process.Kill() // its data go with it
		_ = cmd.Wait()         // it was killed
		_ = os.RemoveAll(dir)  // a directory of temporary files
	}
	ctx, cancel := context.WithTimeout(ctx, etcdStart)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", client[len("http://"):])
		if err == nil {
			_ = conn.Close()
			return client, end, nil
		}
		if ctx.Err() != nil {
			end()
			return "", nil, fmt.Errorf("waiting for etcd: %w", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func freeURL() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer l.Close()
	return "http://" + l.Addr().String(), nil
}
