package engine

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

func TestNetworkAddresses(t *testing.T) {
	n := Network{Name: "n", Prefix: netip.MustParsePrefix("10.176.16.0/20"), Plane: netip.MustParseAddr("10.176.16.2")}
	seen := map[netip.Addr]bool{n.Plane: true}
	for i := range maxNodes {
		a, err := n.NodeAddr(i)
		require.NoError(t, err)
		require.True(t, n.Prefix.Contains(a))
		require.False(t, seen[a])
		seen[a] = true
	}
	assert.True(t, seen[netip.MustParseAddr("10.176.16.3")])
	for _, i := range []int{-1, maxNodes} {
		_, err := n.NodeAddr(i)
		require.Error(t, err)
	}
}

func TestCandidates(t *testing.T) {
	count := func(taken ...string) (n int, first netip.Prefix) {
		var all []netip.Prefix
		for _, s := range taken {
			all = append(all, netip.MustParsePrefix(s))
		}
		for p := range candidates(all) {
			require.Equal(t, p, p.Masked())
			require.True(t, p.Addr().IsPrivate())
			if n++; n == 1 {
				first = p
			}
		}
		return n, first
	}
	all, first := count()
	assert.Equal(t, 256+64+8, all)
	assert.Equal(t, "10.176.0.0/20", first.String())
	n, first := count("10.176.0.0/24")
	assert.Equal(t, all-1, n)
	assert.Equal(t, "10.176.16.0/20", first.String())
	n, first = count("10.0.0.0/8")
	assert.Equal(t, 64+8, n)
	assert.Equal(t, "172.28.0.0/20", first.String())
	n, _ = count("0.0.0.0/0")
	assert.Zero(t, n)
}

func TestNetwork(t *testing.T) {
	e := connected(t)
	a, b := newRun(t, e), newRun(t, e)
	one, err := a.Network(t.Context())
	require.NoError(t, err)
	two, err := b.Network(t.Context())
	require.NoError(t, err)
	assert.False(t, one.Prefix.Overlaps(two.Prefix), "%v %v", one, two)
	assert.Equal(t, one.Prefix.Addr().Next().Next(), one.Plane)

	in, err := e.api.NetworkInspect(t.Context(), one.ID, client.NetworkInspectOptions{})
	require.NoError(t, err)
	assert.True(t, in.Network.Internal)
	assert.False(t, in.Network.EnableIPv6)
	assert.Equal(t, one.Prefix.Addr().Next(), in.Network.IPAM.Config[0].Gateway)
}

func TestNetworksAtOnce(t *testing.T) {
	e := connected(t)
	var made [4]Network
	var g errgroup.Group
	for i := range made {
		r := newRun(t, e)
		g.Go(func() (err error) { made[i], err = r.Network(t.Context()); return err })
	}
	require.NoError(t, g.Wait())
	for i, a := range made {
		for _, b := range made[:i] {
			assert.False(t, a.Prefix.Overlaps(b.Prefix), "%v %v", a, b)
		}
	}
}

// The list of what is taken is old as soon as it was asked for: what was taken since is an overlap.
func TestNetworkOverlap(t *testing.T) {
	e := connected(t)
	r := newRun(t, e)
	make := func(name string) error {
		_, err := e.api.NetworkCreate(t.Context(), r.full(name), client.NetworkCreateOptions{Internal: true, Labels: r.labels(nil),
			IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("192.168.240.0/20")}}}})
		return err
	}
	require.NoError(t, make("first"))
	err := make("second")
	require.Error(t, err)
	assert.True(t, overlap(err), err)
	assert.ErrorContains(t, Plain(err), "another network has these addresses")
}

func TestCreateAtOnce(t *testing.T) {
	r := newRun(t, connected(t))
	id := image(t)
	var g errgroup.Group
	for i := range 8 {
		g.Go(func() error {
			c, err := r.Create(t.Context(), Spec{Name: fmt.Sprint("c", i), Image: id})
			if err != nil {
				return err
			}
			return c.Start(t.Context())
		})
	}
	require.NoError(t, g.Wait())
	cs, _, err := r.e.list(t.Context(), r.filter())
	require.NoError(t, err)
	assert.Len(t, cs, 8)
}

func TestRemove(t *testing.T) {
	e := connected(t)
	a, b := newRun(t, e), newRun(t, e)
	n, err := a.Network(t.Context())
	require.NoError(t, err)
	for i := range 4 {
		addr, err := n.NodeAddr(i)
		require.NoError(t, err)
		pod := started(t, a, Spec{Name: fmt.Sprint("pod", i), Network: &n, Addr: addr})
		started(t, a, Spec{Name: fmt.Sprint("program", i), NetworkOf: pod.ID()})
	}
	stays := started(t, b, Spec{})

	left, err := a.Remove(t.Context())
	require.NoError(t, err)
	assert.Empty(t, left)
	cs, ns, err := e.list(t.Context(), a.filter())
	require.NoError(t, err)
	assert.Empty(t, append(cs, ns...))
	s, err := stays.Inspect(t.Context())
	require.NoError(t, err)
	assert.True(t, s.Running, "the run beside it")
	left, err = a.Remove(t.Context())
	require.NoError(t, err, "again")
	assert.Empty(t, left)
}

// TestRemoveLeavesTheNetworkCounted: Docker may miscount what leaves a network at once, and then keeps the network.
func TestRemoveLeavesTheNetworkCounted(t *testing.T) {
	id := image(t)
	var (
		mu    sync.Mutex
		pods  = map[string]bool{}
		going int
		order []string
	)
	e := behind(t, func(w http.ResponseWriter, r *http.Request, engine http.Handler) {
		mu.Lock()
		of := path.Base(r.URL.Path)
		pod, ours := pods[of]
		ours = ours && r.Method == http.MethodDelete
		if ours && pod {
			going++
			assert.Equal(t, 1, going, "containers that leave the network at once")
		}
		mu.Unlock()
		if !ours {
			engine.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder() // what is noted comes before it
		engine.ServeHTTP(answer, r)
		mu.Lock()
		defer mu.Unlock()
		if pod {
			going--
			order = append(order, "pod")
		} else {
			order = append(order, "program")
		}
		w.WriteHeader(answer.Code)
	})
	r := newRun(t, e)
	n, err := r.Network(t.Context())
	require.NoError(t, err)
	var removed []*Container // by themselves, as those of replicas are
	var stays *Container
	for i := range 6 {
		addr, err := n.NodeAddr(i)
		require.NoError(t, err)
		pod := started(t, r, Spec{Name: fmt.Sprint("pod", i), Image: id, Network: &n, Addr: addr})
		program := started(t, r, Spec{Name: fmt.Sprint("program", i), Image: id, NetworkOf: pod.ID()})
		mu.Lock()
		pods[pod.ID()], pods[program.ID()] = true, false
		mu.Unlock()
		if i%2 == 0 {
			removed = append(removed, pod)
		} else {
			stays = pod
		}
	}
	var g errgroup.Group
	for _, c := range removed {
		g.Go(func() error { return c.Remove(t.Context()) })
	}
	require.NoError(t, g.Wait())
	mu.Lock()
	assert.Equal(t, []string{"pod", "pod", "pod"}, order)
	order = nil
	mu.Unlock()

	// Who waits does not wait longer than it may.
	e.leaving <- struct{}{}
	err = stays.Remove(within(t, 100*time.Millisecond))
	<-e.leaving
	require.ErrorIs(t, err, context.DeadlineExceeded)
	left, err := r.Remove(t.Context())
	require.NoError(t, err)
	assert.Empty(t, left)
	assert.Equal(t, []string{"program", "program", "program", "program", "program", "program", "pod", "pod", "pod"}, order)
}

// What cannot be removed is named: here a network that another's container is on.
func TestRemoveSaysWhatIsLeft(t *testing.T) {
	e := connected(t)
	a, b := newRun(t, e), newRun(t, e)
	n, err := a.Network(t.Context())
	require.NoError(t, err)
	addr, err := n.NodeAddr(0)
	require.NoError(t, err)
	guest := started(t, b, Spec{Network: &n, Addr: addr})
	left, err := a.Remove(t.Context())
	require.ErrorContains(t, err, "a container is on the network")
	assert.Equal(t, []string{"network " + n.Name}, left)
	require.NoError(t, guest.Remove(t.Context()))
}

func TestSweep(t *testing.T) {
	e := connected(t)
	// A process that lived, and is dead.
	p := exec.Command("sleep", "1000")
	require.NoError(t, p.Start())
	dead := self()
	dead.pid = p.Process.Pid
	var err error
	dead.start, err = startTime(dead.pid)
	require.NoError(t, err)
	assert.False(t, dead.abandoned())
	require.NoError(t, p.Process.Kill())
	require.NoError(t, poll(within(t, 10*time.Second), func() (bool, error) { return dead.abandoned(), nil }), "dead, and not waited for")
	require.Error(t, p.Wait())
	assert.True(t, dead.abandoned())

	mine := newRun(t, e)
	started(t, mine, Spec{})
	theirs := newRun(t, e)
	put := func(o owner, name string) {
		t.Helper()
		labels := theirs.labels(map[string]string{LabelOwner: o.label()})
		_, err := e.api.VolumeCreate(t.Context(), client.VolumeCreateOptions{Name: theirs.full(name), Labels: labels})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, e.removeVolume(context.Background(), theirs.full(name))) })
		_, err = e.api.NetworkCreate(t.Context(), theirs.full(name), client.NetworkCreateOptions{Internal: true, Labels: labels})
		require.NoError(t, err)
	}
	far := dead
	far.machine, far.boot = "elsewhere", "another"
	put(dead, "dead")
	put(far, "far")
	lives, err := e.Lives(t.Context())
	require.NoError(t, err)
	assert.True(t, lives, "this process does")

	removed, err := e.Sweep(t.Context())
	require.NoError(t, err)
	assert.Contains(t, removed, "network "+theirs.full("dead"))
	assert.Contains(t, removed, "volume "+theirs.full("dead"))
	assert.NotContains(t, strings.Join(removed, " "), theirs.full("far"))
	assert.NotContains(t, strings.Join(removed, " "), mine.ID())
	cs, _, err := e.list(t.Context(), mine.filter())
	require.NoError(t, err)
	assert.Len(t, cs, 1)
	_, ns, err := e.list(t.Context(), theirs.filter())
	require.NoError(t, err)
	assert.Len(t, ns, 1)
}

// TestVolumeOfAnother: the engine returns a volume that exists as if it were new.
func TestVolumeOfAnother(t *testing.T) {
	e := connected(t)
	dead, far := self(), self()
	dead.start = "1" // a later process has its id
	far.machine, far.boot = "elsewhere", "another"
	for what, of := range map[string]struct {
		owner string
		says  string // empty: it is made anew
	}{
		"of a dead owner":        {owner: dead.label()},
		"of another machine":     {far.label(), "which may live"},
		"of nobody that we know": {"", "which may live"},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRun(t, e)
			name := r.full("data")
			made := func(labels map[string]string) string {
				v, err := e.api.VolumeCreate(t.Context(), client.VolumeCreateOptions{Name: name, Labels: labels})
				require.NoError(t, err)
				return v.Volume.Labels["generation"]
			}
			require.Equal(t, "old", made(map[string]string{LabelOwner: of.owner, "generation": "old"}))
			t.Cleanup(func() { require.NoError(t, e.removeVolume(context.Background(), name)) })
			err := r.Volume(t.Context(), name, map[string]string{"generation": "new"})
			if of.says != "" {
				require.ErrorContains(t, err, of.says)
				require.ErrorContains(t, err, name)
				require.Equal(t, "old", made(nil), "it is not ours to remove")
				return
			}
			require.NoError(t, err)
			require.NoError(t, r.Volume(t.Context(), name, map[string]string{"generation": "newer"}))
			require.Equal(t, "new", made(nil), "what is our own is found again")
		})
	}
}

func TestLiving(t *testing.T) {
	me, dead, far := self(), self(), self()
	dead.start = "1"
	far.machine, far.boot = "elsewhere", "another"
	of := func(labels ...string) (all []thing) {
		for _, l := range labels {
			all = append(all, thing{labels: map[string]string{LabelOwner: l}})
		}
		return all
	}
	assert.False(t, living(nil))
	assert.False(t, living(of(dead.label(), "nobody", "")))
	assert.True(t, living(of(dead.label(), me.label())))
	assert.True(t, living(of(far.label())), "nothing is known of another machine's")
}

func TestOwner(t *testing.T) {
	me := self()
	assert.Equal(t, os.Getpid(), me.pid)
	back, err := parseOwner(me.label())
	require.NoError(t, err)
	assert.Equal(t, me, back)
	for _, bad := range []string{"", "a/b", "m/b/n/x/1"} {
		_, err := parseOwner(bad)
		assert.Error(t, err, bad)
	}
	for name, test := range map[string]struct {
		change    func(*owner)
		abandoned bool
	}{
		"this":                         {func(*owner) {}, false},
		"a later process of this id":   {func(o *owner) { o.start = "1" }, true},
		"before the machine's restart": {func(o *owner) { o.boot = "before" }, true},
		"another machine":              {func(o *owner) { o.boot, o.machine, o.start = "other", "other", "1" }, false},
		"another namespace":            {func(o *owner) { o.pidNS, o.start = "pid:[1]", "1" }, false},
		"no /proc":                     {func(o *owner) { o.boot, o.start = "", "1" }, false},
	} {
		o := me
		test.change(&o)
		assert.Equal(t, test.abandoned, o.abandoned(), name)
	}
}

// TestHiddenOwner: with hidepid, /proc has nothing of another user's process. That is no death.
func TestHiddenOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root hides processes from itself")
	}
	p := exec.Command("sleep", "1000")
	require.NoError(t, p.Start())
	other := self()
	other.pid = p.Process.Pid
	abandoned := func() bool {
		hidden, found := make(chan error, 1), make(chan bool, 1)
		go func() {
			runtime.LockOSThread() // not unlocked: the thread ends with its own /proc
			err := unix.Unshare(unix.CLONE_NEWNS)
			if err == nil {
				err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
			}
			if err == nil {
				err = unix.Mount("empty", "/proc", "tmpfs", 0, "")
			}
			hidden <- err
			found <- other.abandoned()
		}()
		require.NoError(t, <-hidden)
		return <-found
	}
	assert.False(t, abandoned(), "it lives")
	require.NoError(t, p.Process.Kill())
	require.Error(t, p.Wait())
	assert.True(t, abandoned(), "it is dead")
}

func TestDoctor(t *testing.T) {
	e := connected(t)
	for _, s := range Doctor(t.Context()) {
		assert.NoError(t, s.Err, s.Name)
		assert.NotEmpty(t, s.Doc)
	}
	_, ns, err := e.list(t.Context(), label(LabelName, "doctor"))
	require.NoError(t, err)
	assert.Empty(t, ns)
}

func TestNothingOfOursGoesOn(t *testing.T) {
	probe := connected(t)
	id := image(t)
	require.NoError(t, probe.Close())
	before := goleak.IgnoreCurrent()
	e, err := Connect(t.Context())
	require.NoError(t, err)
	r := e.NewRun("leak")
	for i := range 20 {
		c, err := r.Create(t.Context(), Spec{Name: fmt.Sprint("c", i), Image: id})
		require.NoError(t, err)
		stream, err := c.Attach(t.Context())
		require.NoError(t, err)
		require.NoError(t, c.Start(t.Context()))
		require.Error(t, c.waitFor(t.Context(), time.Millisecond))
		x, err := c.Exec(t.Context(), ExecSpec{Argv: []string{patient, "exit", "0"}, Stdin: strings.NewReader("x")})
		require.NoError(t, err)
		_, err = x.Wait()
		require.NoError(t, err)
		require.NoError(t, c.Remove(t.Context()))
		require.NoError(t, stream.Close())
	}
	left, err := r.Remove(t.Context())
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoError(t, e.Close())
	goleak.VerifyNone(t, before)
}
