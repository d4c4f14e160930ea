package harness

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/build"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/engine"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/hasvc/gauntlet/harness/topology"
)

// Topology is a running topology, to be broken by hand in a test.
type Topology struct {
	cluster.Cluster
	hand *engine.Hand
}

// Up starts the topology of a Compose file, in the sandbox or WithDriver, and takes it down at the end of the test, which
// fails when anything is left. Every node is ready when Up returns. Logs of the nodes are a test artifact. Of the options
// WithDriver and WithStreamFaults mean something here.
func Up(t testing.TB, compose string, opts ...Option) *Topology {
	t.Helper()
	var o testOptions
	for _, f := range opts {
		f(&o)
	}
	driver := o.Driver
	if driver == nil {
		driver = Drivers[0].New()
	}
	ctx := t.Context()
	spec, err := topology.Load(ctx, compose, topology.Option{})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range spec.Warnings {
		t.Log("warning: " + w)
	}
	if _, err := new(build.Builder).Build(ctx, spec, nil, filepath.Dir(compose), func(line string) { t.Log(line) }); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.ArtifactDir(), "up")
	w, err := record.Create(dir, record.Meta{Tool: Version(), Driver: driver.Name()}, &plan.Plan{Version: plan.Version, Name: "up", Topology: compose})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("write the record: %v", err)
		}
	})
	var links []cluster.Link
	if o.streams != nil {
		if links, err = linksOf(spec, o.streams); err != nil {
			t.Fatal(err)
		}
	}
	volumes := filepath.Join(t.TempDir(), "volumes")
	t.Cleanup(func() { // also of a topology that did not come up
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := engine.RemoveVolumes(ctx, driver, volumes); err != nil {
			t.Errorf("remove the volumes: %v", err)
		}
	})
	c, err := driver.Up(ctx, spec, cluster.Options{
		Dir: dir, Volumes: volumes, Observe: func(cluster.Event) {}, Progress: func(line string) { t.Log(line) },
		Toxic: links, Replied: links,
	})
	if err != nil {
		t.Fatal(err)
	}
	top := &Topology{Cluster: c, hand: engine.NewHand(c, w)}
	t.Cleanup(func() {
		top.hand.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		left, err := c.Down(ctx)
		if err != nil {
			t.Errorf("take the topology down: %v", err)
		}
		for _, l := range left {
			t.Errorf("left behind: %s", l)
		}
	})
	return top
}

// Inject inflicts a fault and returns when its effect is proved. The undo takes it back and proves that it is gone; it
// runs once, at the latest at the end of the test. A fault that nothing met while it held fails the test: it showed nothing.
// A fault of the stream layer acts on connections that are made while it holds, on others only WithStreamFaults.
func (c *Topology) Inject(t testing.TB, f faults.Params) (undo func()) {
	t.Helper()
	back, err := c.hand.Inject(t.Context(), f)
	if err != nil {
		t.Fatalf("inject: %v", err)
	}
	undo = sync.OnceFunc(func() {
		if err := back(context.Background()); err != nil {
			t.Errorf("undo: %v", err)
		}
	})
	t.Cleanup(undo)
	return undo
}
