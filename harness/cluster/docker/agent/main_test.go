package agent

import (
	"os"
	"testing"

	"github.com/hasvc/gauntlet/harness/turn"
)

// Whole transfers load the machine; timed runs must not meet them.
func TestMain(m *testing.M) { os.Exit(turn.Main(m.Run)) }
