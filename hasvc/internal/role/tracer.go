package role

import (
	"fmt"
	"os"

	"go.uber.org/zap"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

// newTracer is the replica's, with the host's name as that of the node.
func newTracer(service string, cfg config.Config) (*trace.Tracer, error) {
	node, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("asking for the host's name: %w", err)
	}
	return trace.New(cfg.Traces, service, node, cfg.Defects)
}

func closeTracer(t *trace.Tracer, log *zap.Logger) {
	if err := t.Close(); err != nil {
		log.Warn("the last spans are lost", zap.Error(err))
	}
}
