package harness_test

import (
	"testing"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/scenarios"
)

// controlled are scenarios whose controls run here too, to show that a control kills: one by defect. The others run in
// `make soak`, and those by environment and flags with the database of examples/mydb.
var controlled = map[string]string{"store-leader-kill": "ack-early in orders"}

func TestShippedScenarios(t *testing.T) {
	shipped := scenarios.Shipped()
	if len(shipped) == 0 {
		t.Fatal("no scenario is shipped")
	}
	for _, s := range shipped {
		t.Run(s.Name, func(t *testing.T) {
			var opts []harness.Option
			if c := controlled[s.Name]; c != "" {
				opts = append(opts, harness.WithControls(c))
			}
			harness.Test(t, s.Name, opts...)
		})
	}
}

// TestShippedScenarioInContainers runs one of them as it is, with its control, on the other driver. All of them run there in
// `make soak`.
func TestShippedScenarioInContainers(t *testing.T) {
	d, err := harness.DriverByName("docker")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Capabilities().Missing(cluster.PacketRules); err != nil {
		t.Skipf("no container engine: %v", err)
	}
	harness.Test(t, "store-leader-kill", harness.WithDriver("docker"), harness.WithControls("ack-early in orders"))
}
