package edge

import "math/rand/v2"

// chooser picks one of at least one gateways; n counts the requests.
type chooser func(n uint64, from []*gateway) *gateway

// The policies, by the words of HASVC_EDGE_BALANCER.
var choosers = map[string]chooser{
	"round_robin":       func(n uint64, from []*gateway) *gateway { return from[n%uint64(len(from))] },
	"least_connections": leastConnections,
	"random":            func(_ uint64, from []*gateway) *gateway { return from[rand.IntN(len(from))] },
}

// leastConnections looks at all of them: an edge knows a few. Those that are equal take turns, or the first would get all
// of a quiet time.
func leastConnections(n uint64, from []*gateway) *gateway {
	var best *gateway
	for i := range from {
		g := from[(n+uint64(i))%uint64(len(from))] // #nosec G115 -- an index
		if best == nil || g.inFlight.Load() < best.inFlight.Load() {
			best = g
		}
	}
	return best
}
