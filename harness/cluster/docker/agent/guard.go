package agent

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// engineDNS is where an engine's own name server listens, in every namespace. It asks the machine's, also for a network
// that is internal: a way out.
var engineDNS = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// guard lets nothing leave a pod but through the plane. The routes alone do not do it: a socket with SO_DONTROUTE and
// SO_BINDTODEVICE, which need no privilege, makes the kernel take every address for a neighbour's, and on the engine's
// bridge all nodes and the machine are.
func guard(device string, plane netip.Addr) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("guarding %s: %w", device, err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "gauntlet"})
	accept := nftables.ChainPolicyAccept
	chain := c.AddChain(&nftables.Chain{
		Name: "out", Table: table, Type: nftables.ChainTypeFilter, Policy: &accept,
		// Before the engine's translation of its name server's address.
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRaw,
	})
	c.FlushChain(chain) // a pod is set up again after a restart
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, device)
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
		&expr.Rt{Key: expr.RtNexthop4, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: plane.AsSlice()},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: engineDNS.AsSlice()},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("guarding %s: %w", device, err)
	}
	return nil
}
