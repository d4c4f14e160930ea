package harness_test

import (
	"slices"
	"testing"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/scenarios"
)

// controlled are scenarios whose controls run here too, to show that a control kills: one by defect. The others run in
// `make soak`, and those by environment and flags with the database of examples/mydb.
var controlled = map[string]string{"store-leader-kill": "ack-early in orders"}

// TestShippedScenarios runs those that carry the tag smoke: all of them, one after the other, take longer than a test may. `make soak`
// runs all of them, each with its controls.
func TestShippedScenarios(t *testing.T) {
	shipped := slices.DeleteFunc(scenarios.Shipped(), func(s scenarios.Entry) bool { return !slices.Contains(s.Tags, "smoke") })
	if len(shipped) == 0 {
		t.Fatal("no scenario that ships has the tag smoke")
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

// TestScenarioInContainers runs one of them, with its control, on the other driver, with a load that a slow machine carries there too: what
// it carries as they are is for `make verdicts` to say.
func TestScenarioInContainers(t *testing.T) {
	d, err := harness.DriverByName("docker")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Capabilities().Missing(cluster.PacketRules); err != nil {
		t.Skipf("no container engine: %v", err)
	}
	harness.Test(t, "testdata/contained.yaml", harness.WithDriver("docker"), harness.WithControls("ack-early in orders"))
}
