package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// upFlags are the flags of up.
type upFlags struct {
	toxic, reply     []string
	driver, api, out string
}

func upCommand(*int) *cobra.Command {
	var f upFlags
	c := &cobra.Command{
		Use:   "up TOPOLOGY",
		Short: "Start a topology to look at and to break by hand, until Ctrl-C",
		Long: `Start a topology to look at and to break by hand, until Ctrl-C takes it down (130, as of every command that is interrupted).
TOPOLOGY is a Compose file, or the name of one that ships with Gauntlet.

Each port of a service can be reached at an address of loopback, by way of the node "client". Toxiproxy's HTTP API is
spoken for it, so that its command line and its clients add toxics and remove them: a proxy is a link, called FROM_TO. A
link that can have toxics accepts a connection before the other end does; --toxic says which, the others are left alone.

Beside toxiproxy's own toxics there are two more, which answer requests in the server's place on the links that --reply names,
a share of them (the toxicity), the first so many or each so manyth:

  http_error  status=503, and if wanted path=REGEXP method=REGEXP body=TEXT retry_after=SECONDS first=N every=N
  grpc_error  code=14 (UNAVAILABLE), and if wanted method=REGEXP message=TEXT first=N every=N`,
		Example: `  gauntlet up reference --toxic gateway:orders
  toxiproxy-cli toxic add -t latency -a latency=200 gateway-1_orders-1
  toxiproxy-cli toxic remove -n latency_downstream gateway-1_orders-1
  gauntlet up requests --reply client:edge
  toxiproxy-cli toxic add -t http_error -a status=503 -a path=^/orders --toxicity 0.3 client_edge`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(c, "which topology? A Compose file, or the name of a shipped one: %v", shippedTopologies())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return f.up(c.Context(), args[0], c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().StringArrayVar(&f.toxic, "toxic", nil, "let the links `FROM:TO` have toxics, each a node, a service or a group; may be given several times (default: all links)")
	c.Flags().StringArrayVar(&f.reply, "reply", nil, "read the requests on the links `FROM:TO`, so that they can have error replies; may be given several times")
	c.Flags().StringVar(&f.driver, "driver", "", "run the topology on this `DRIVER`: "+driverNames())
	c.Flags().StringVar(&f.api, "api", harness.DefaultAPI, "speak toxiproxy's API at this `ADDRESS`")
	c.Flags().StringVar(&f.out, "out", "runs", "put the directory with the nodes' logs below this `DIRECTORY`")
	return c
}

func (f *upFlags) up(ctx context.Context, arg string, stdout, stderr io.Writer) (err error) {
	driver, err := harness.DriverByName(f.driver)
	if err != nil {
		return err
	}
	file, err := topologyFile(arg)
	if err != nil {
		return err
	}
	p := timed(stderr)
	dir := harness.RunDir(f.out, &plan.Plan{Name: "up"}, "")
	defer os.Remove(dir) // where nothing was started
	s, err := harness.Stand(ctx, file, harness.StandOptions{
		Driver: driver, Toxic: f.toxic, Reply: f.reply, API: f.api, Dir: dir, Seed: rand.Uint64() >> 11, Progress: p,
		Observe: func(e cluster.Event) {
			if e.Kind == cluster.NodeExited {
				p(fmt.Sprintf("%s has ended %s", e.Node, e.Detail))
			}
		},
	})
	if err != nil {
		return err
	}
	defer func() {
		p("taking it down")
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		left, derr := s.Close(ctx)
		if len(left) > 0 {
			derr = errors.Join(derr, fmt.Errorf("left behind: %v", left))
		}
		err = errors.Join(err, derr)
	}()
	reach(stdout, s, dir)
	select {
	case <-ctx.Done():
		return nil
	case <-s.Done():
		return fmt.Errorf("the topology ended by itself: %w", s.Err())
	}
}

// reach says how the topology can be reached.
func reach(w io.Writer, s *harness.Standing, dir string) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, p := range s.Ports {
		fmt.Fprintf(t, "%s:%d\t%s\n", p.Service, p.Port, p.Addr)
	}
	fmt.Fprintf(t, "toxiproxy's API\t%s\t%d links\n", s.API, s.Proxies)
	fmt.Fprintf(t, "logs\t%s\n", filepath.Join(dir, "logs"))
	_ = t.Flush() // a terminal that has gone
	fmt.Fprintln(w, "\nready; Ctrl-C takes it down")
}
