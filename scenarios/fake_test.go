package scenarios

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// judge is what the stand-ins for assertions share. The format is tested apart from what judges: the real table has its
// own test.
type judge struct {
	assertions.Params `json:"-"` // nil: nothing here is ever judged
}

type fakeSLO struct {
	judge
	Load     string        `json:"load,omitempty"`
	Workload string        `json:"workload,omitempty"`
	Request  string        `json:"request,omitempty"`
	During   string        `json:"during,omitempty"`
	After    string        `json:"after,omitempty"`
	Within   plan.Duration `json:"within,omitempty"`
	Window   plan.Duration `json:"window,omitempty"`
	Success  plan.Bound    `json:"success,omitzero"`
	P95      plan.Bound    `json:"p95,omitzero"`
}

func (f *fakeSLO) Validate(s assertions.Scope) error {
	var errs []error
	if !slices.ContainsFunc(s.Plan.Loads, func(l plan.Load) bool { return l.Name == f.Load }) && f.Workload == "" {
		errs = append(errs, fmt.Errorf("no such load: %q", f.Load))
	}
	if !f.P95.IsZero() && f.P95.Unit != plan.Seconds && f.P95.Unit != plan.Times {
		errs = append(errs, fmt.Errorf("p95 %q: a time such as 100ms, or a multiple of the baseline", f.P95))
	}
	if !f.Success.IsZero() && f.Success.Unit != plan.Ratio {
		errs = append(errs, fmt.Errorf("success %q: a share such as 99.9%%", f.Success))
	}
	return errors.Join(errs...)
}

type fakeHistory struct {
	judge
	Workload string `json:"workload,omitempty"`
	Group    string `json:"group,omitempty"`
}

func (*fakeHistory) Validate(assertions.Scope) error { return nil }

type fakeExec struct {
	judge
	Exec []string `json:"exec"`
	In   string   `json:"in,omitempty"`
}

func (*fakeExec) Validate(assertions.Scope) error { return nil }

func fakeTables() Tables {
	slo := func() assertions.Params { return &fakeSLO{} }
	history := func() assertions.Params { return &fakeHistory{} }
	return Tables{
		Faults: faults.Table,
		Assertions: []assertions.Kind{
			{Name: "slo", New: slo}, {Name: "recovers", New: slo},
			{Name: "no-lost-writes", New: history}, {Name: "no-duplicates", New: history}, {Name: "linearizable", New: history},
			{Name: "members-agree", New: history}, {Name: "unique-leader", New: history},
			{Name: "exec", New: func() assertions.Params { return &fakeExec{} }},
			{Name: "promql", New: history, Unsupported: "this version records no metrics"},
		},
		Defects: []string{"ack-early", "single-endpoint", "no-drain"},
	}
}

// reference is the part of the reference topology that names come from.
func reference() *cluster.Spec {
	hasvc := cluster.Source{Go: "github.com/hasvc/gauntlet/hasvc"}
	s := &cluster.Spec{Name: "reference", File: "topologies/reference.yaml"}
	for i := 1; i <= 3; i++ {
		s.Services = append(s.Services, cluster.Service{Name: fmt.Sprintf("store-%d", i), Replicas: 1, Group: "store",
			Leader: &cluster.Leader{Kind: "etcd"}, Source: cluster.Source{Go: "go.etcd.io/etcd/server/v3@v3.7.3"}})
	}
	s.Services = append(s.Services,
		cluster.Service{Name: "gateway", Scaled: true, Replicas: 2, Expose: []int{8080}, Source: hasvc, Zone: "a"},
		cluster.Service{Name: "orders", Scaled: true, Replicas: 3, Source: hasvc})
	return s
}

// mydb is the topology of the catalogue of formats.
func mydb() *cluster.Spec {
	s := &cluster.Spec{Name: "mydb", File: "mydb.yaml"}
	for i := 1; i <= 3; i++ {
		s.Services = append(s.Services, cluster.Service{Name: fmt.Sprintf("mydb-%d", i), Replicas: 1, Group: "mydb", Expose: []int{7400},
			Leader: &cluster.Leader{Kind: "http"}})
	}
	s.Services = append(s.Services,
		cluster.Service{Name: "proxy", Replicas: 1, Expose: []int{8080}},
		cluster.Service{Name: "api", Scaled: true, Replicas: 2, Expose: []int{8080}})
	return s
}
