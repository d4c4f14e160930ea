package plane

import (
	"context"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// liveEnds are the live ends of connections between two nodes, and the plane that ends them.
type liveEnds struct {
	live     []Socket
	late     []Socket // are made between the first listing and the refusal
	refusing bool
	provoked []Socket
}

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
