package command

import (
	"context"
	"fmt"
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/logs"
	"github.com/hasvc/gauntlet/hasvc/internal/role"
)

// serve runs a role until the process is told to stop.
func serve(name string) func(context.Context, call) int {
	return func(ctx context.Context, c call) int {
		if !c.noArguments(name) {
			return exitUsage
		}
		cfg, err := config.Parse(c.environ, role.HTTP[name])
		if err != nil {
			fmt.Fprintf(c.stderr, "hasvc %s: %v\n", name, err)
			return exitUsage
		}
		node, err := os.Hostname()
		if err != nil {
			fmt.Fprintf(c.stderr, "hasvc %s: asking for the host's name: %v\n", name, err)
			return exitFailed
		}
		log := newLog(c.stderr, cfg.Level).With(zap.String("service", name), zap.String("node", node))
		for d := range cfg.Defects {
			log.Warn("this replica is wrong on purpose", zap.String("defect", string(d)))
		}
		if err := role.Roles[name](ctx, cfg, log, func(role.Addrs) {}); err != nil {
			log.Error("stopped with an error", zap.Error(err))
			return exitFailed
		}
		return exitOK
	}
}

// newLog writes JSON lines. Nothing is held back: after a crash the last line counts most.
func newLog(w io.Writer, level zapcore.Level) *zap.Logger {
	enc := zap.NewProductionEncoderConfig()
	enc.TimeKey, enc.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	return zap.New(logs.Sampled(zapcore.NewCore(zapcore.NewJSONEncoder(enc), zapcore.Lock(zapcore.AddSync(w)), level)))
}
