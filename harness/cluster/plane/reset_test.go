package plane

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// liveEnds are the live ends of connections between two nodes, and the plane that ends them.
type liveEnds struct {
	live     []Socket
	late     []Socket // are made between the first listing and the refusal
	refusing bool
	provoked []Socket
	probes   []netip.AddrPort // where the harness listens
}

func (e *liveEnds) notes(context.Context) (notes, error) { return notes{Probes: e.probes}, nil }

func (e *liveEnds) list(context.Context, []AddrLink) ([]Socket, error) { return e.live, nil }

func (e *liveEnds) refuse(context.Context, []AddrLink) (uint64, error) {
	e.live, e.refusing = append(e.live, e.late...), true
	return 1, nil
}

func (e *liveEnds) provoke(_ context.Context, live []Socket) error {
	e.provoked = append(e.provoked, live...)
	e.live = nil
	return nil
}

func (e *liveEnds) release(context.Context, uint64) error { e.refusing = false; return nil }

// TestResetFindsWhatComesBeforeTheRefusal has a connection made when the server's node has been listed and the client's
// not yet, and another when both have.
func TestResetFindsWhatComesBeforeTheRefusal(t *testing.T) {
	a, b := netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")
	ends := func(port uint16) (client, server Socket) {
		c, s := netip.AddrPortFrom(a, port), netip.AddrPortFrom(b, 80)
		return Socket{c, s}, Socket{s, c}
	}
	oldClient, oldServer := ends(1)
	halfClient, halfServer := ends(2)
	newClient, newServer := ends(3)
	e := &liveEnds{
		live: []Socket{oldClient, oldServer, halfClient},
		late: []Socket{halfServer, newClient, newServer},
	}
	n, err := reset(t.Context(), e, bothWays([]AddrLink{{a, b}}), e.list)
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.ElementsMatch(t, []Socket{oldClient, oldServer, halfClient, halfServer, newClient, newServer}, e.provoked)
	require.False(t, e.refusing)
}

// TestResetDoesNotCountProbes has a probe between two nodes that have one connection, and then none; the listener of another is
// closed as soon as its ends were listed.
func TestResetDoesNotCountProbes(t *testing.T) {
	a, b := netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")
	ends := func(from, to uint16) []Socket {
		c, s := netip.AddrPortFrom(a, from), netip.AddrPortFrom(b, to)
		return []Socket{{c, s}, {s, c}}
	}
	probe, ending, traffic := ends(1, 40000), ends(2, 40001), ends(3, 80)
	for want, live := range [][]Socket{slices.Concat(probe, ending), slices.Concat(probe, ending, traffic)} {
		e := &liveEnds{live: live, probes: []netip.AddrPort{netip.AddrPortFrom(b, 40000), netip.AddrPortFrom(b, 40001)}}
		n, err := reset(t.Context(), e, bothWays([]AddrLink{{a, b}}), func(ctx context.Context, links []AddrLink) ([]Socket, error) {
			e.probes = e.probes[:1]
			return e.list(ctx, links)
		})
		require.NoError(t, err)
		require.Equal(t, want, n)
		require.ElementsMatch(t, live, e.provoked, "they are reset all the same")
	}
}
