package supervise

import (
	"context"
	"errors"
	"fmt"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Meter is a Carrier that knows what its nodes use. Its figures are those of cluster.Usager, but for the restarts.
type Meter interface {
	Usage(ctx context.Context) (map[string]cluster.Usage, error)
}

// Usage implements cluster.Usager.
func (t *Topology) Usage(ctx context.Context) (map[string]cluster.Usage, error) {
	m, ok := t.carrier.(Meter)
	if !ok {
		return nil, errors.New("this driver does not know what its nodes use")
	}
	if t.life.Err() != nil {
		return nil, fmt.Errorf("read what the nodes use: %w", t.ending())
	}
	usage, err := m.Usage(ctx)
	if err != nil {
		return nil, fmt.Errorf("read what the nodes use: %w", err)
	}
	for _, n := range t.all() {
		if u, ok := usage[n.Info.Name]; ok {
			n.mu.Lock()
			u.Restarts = n.restarts
			n.mu.Unlock()
			usage[n.Info.Name] = u
		}
	}
	return usage, nil
}
