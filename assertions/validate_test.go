package assertions

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hasvc/gauntlet/harness/plan"
)

// A finding that holds whatever the service does is refused before the start, wherever a bound can be written so.
func TestBoundsThatEveryValueMeets(t *testing.T) {
	orders := Source{Load: "orders"}
	slo := func(b Bounds) Params { return &SLO{Source: orders, Bounds: b} }
	for _, c := range []struct {
		name, text string
		of         func(plan.Bound) Params
	}{
		{"success", ">= 0%", func(b plan.Bound) Params { return slo(Bounds{Success: b}) }},
		{"success", "<= 100%", func(b plan.Bound) Params { return slo(Bounds{Success: b}) }},
		{"p50", ">= 0s", func(b plan.Bound) Params { return slo(Bounds{P50: b}) }},
		{"p99.9", ">= 0x baseline", func(b plan.Bound) Params { return slo(Bounds{P999: b}) }},
		{"throughput", ">= 0/s", func(b plan.Bound) Params { return slo(Bounds{Throughput: b}) }},
		{"lost", ">= 0", func(b plan.Bound) Params { return &ZeroDrop{Load: "orders", Lost: b} }},
		{"lost", "<= 100%", func(b plan.Bound) Params { return &ZeroDrop{Load: "orders", Lost: b, Duplicated: b} }},
		{"share", ">= 0%", func(b plan.Bound) Params { return &Logs{Load: "orders", Hops: []string{"edge"}, Share: b} }},
		{"goodput", ">= 0/s", func(b plan.Bound) Params { return &Shed{Load: "orders", Goodput: b} }},
		{"high", "<= 100%", func(b plan.Bound) Params { return &Shed{Load: "orders", High: b, HighIDs: []string{"create"}} }},
		{"accepted-p90", ">= 0s", func(b plan.Bound) Params { return &Shed{Load: "orders", AcceptP90: b} }},
		{"goodput", ">= 0%", func(b plan.Bound) Params { return &Metastable{Load: "orders", Goodput: b} }},
		{"attempts", ">= 0", func(b plan.Bound) Params { return &RetryAmplification{Load: "orders", Attempts: b} }},
		{"attempts", ">= 0x baseline", func(b plan.Bound) Params { return &RetryAmplification{Load: "orders", Attempts: b} }},
	} {
		err := c.of(bound(t, c.text)).Validate(Scope{Plan: &newServed().plan})
		assert.ErrorContains(t, err, c.name+` "`+c.text+`": every value meets that`)
	}
	all, none := bound(t, "<= 100%"), bound(t, "= 0")
	for _, one := range []*ZeroDrop{{Load: "orders", Lost: all, Duplicated: none}, {Load: "orders", Duplicated: all}} {
		assert.NoError(t, one.Validate(Scope{Plan: &newServed().plan}), "one is asked alone")
	}
	for _, text := range []string{">= 1%", "<= 99.9%", "= 100%", "= 0%", "< 100%", "<= 1x baseline", "<= 1"} {
		assert.False(t, bound(t, text).Always(), text)
	}
}
