package docker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/cli"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
)

// watcher is a standard error that does something when a text has come by.
type watcher struct {
	bytes.Buffer
	text string
	do   func()
}

func (w *watcher) Write(b []byte) (int, error) {
	n, err := w.Buffer.Write(b)
	if w.do != nil && strings.Contains(w.String(), w.text) {
		do := w.do
		w.do = nil
		do()
	}
	return n, err
}

// TestPlaneKilledInRun kills the plane in the middle of a shipped scenario: there is no verdict about the service then.
func TestPlaneKilledInRun(t *testing.T) {
	e := connected(t)
	if testing.Short() {
		t.Skip("it builds and runs the reference service, which -short leaves out")
	}
	t.Setenv("GAUNTLET_TURN", filepath.Join(t.TempDir(), "turn")) // this test's own is taken, and no verdict rests on time
	killed := errors.New("the baseline did not come")
	var out bytes.Buffer
	said := &watcher{text: "baseline", do: func() { killed = killPlane(t.Context(), e.API()) }}
	code := cli.Main(t.Context(), []string{"run", "--driver", "docker", "--out", t.TempDir(), "no-fault"}, &out, said)
	require.NoError(t, killed, "%s%s", said, &out)
	require.Equal(t, 3, code, "%s%s", said, &out)
	require.Contains(t, out.String(), "INVALID  no-fault")
	require.Contains(t, out.String(), "the plane ended by itself")
	require.NotRegexp(t, `(?m)^ *FAIL `, out.String(), "nothing is the service's fault")
}

// killPlane kills the one plane whose harness is this process.
func killPlane(ctx context.Context, api client.APIClient) error {
	planes, err := api.ContainerList(ctx, client.ContainerListOptions{Filters: client.Filters{}.Add("label", engine.LabelRole+"=plane")})
	if err != nil {
		return err
	}
	for _, c := range planes.Items {
		if strings.Contains(c.Labels[engine.LabelOwner], fmt.Sprintf("/%d/", os.Getpid())) {
			_, err := api.ContainerKill(ctx, c.ID, client.ContainerKillOptions{Signal: "SIGKILL"})
			return err
		}
	}
	return errors.New("no plane is this process's")
}
