// Package memcached breaks a program of this machine by hand: nothing of it was built, and nothing in it knows.
package memcached

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/plan"
)

func TestCacheIsKilledAndComesBackEmpty(t *testing.T) {
	if _, err := exec.LookPath("memcached"); err != nil {
		t.Skip("memcached is not installed (Debian: apt-get install memcached)")
	}
	c := harness.Up(t, "memcached.yaml")
	ask := func(words string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		conn, err := c.Dial(ctx, "client", "tcp", "cache-1:11211")
		if err != nil {
			return "", err
		}
		defer conn.Close()
		deadline, _ := ctx.Deadline()
		conn.SetDeadline(deadline)
		if _, err := fmt.Fprint(conn, words); err != nil {
			return "", err
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		return strings.TrimSpace(line), err
	}
	said, err := ask("set k 0 0 1\r\nx\r\n")
	require.NoError(t, err)
	require.Equal(t, "STORED", said)
	said, err = ask("get k\r\n")
	require.NoError(t, err)
	require.Equal(t, "VALUE k 0 1", said)

	undo := c.Inject(t, &faults.Kill{Target: plan.Target{Node: "cache-1"}})
	_, err = ask("get k\r\n")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)

	undo()
	said, err = ask("get k\r\n")
	require.NoError(t, err)
	require.Equal(t, "END", said, "a cache forgets when it dies")
}
