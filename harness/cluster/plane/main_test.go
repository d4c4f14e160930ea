package plane

import (
	"os"
	"testing"

	"github.com/hasvc/gauntlet/harness/turn"
)

// The tests of delays and of traffic load the machine; timed runs must not meet them.
func TestMain(m *testing.M) { os.Exit(turn.Main(m.Run)) }
