package assertions

import (
	"context"
	"errors"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Table lists every assertion that a scenario file may name.
var Table = []Kind{
	{Name: "slo", Class: Service, New: func() Params { return &SLO{} },
		Doc: "Success, latency quantiles and throughput of a load or workload, in a phase or while a fault holds; absolute or relative to the baseline of the round. Also an error budget and how fast it burns."},
	{Name: "recovers", Class: Service, New: func() Params { return &Recovers{} },
		Doc: "The time from a moment in a fault's life to the first moment after which a sliding window keeps the bounds until recovery ends."},
	{Name: "zero-drop", Class: Service, New: func() Params { return &ZeroDrop{} },
		Doc: "Not one request was lost or done twice around a fault, by a ledger of each: what its client saw, joined by its id with what the servers logged."},
	{Name: "logs", Class: Service, New: func() Params { return &Logs{} },
		Doc: "Each request of a load can be followed through the logs of every service on its way by one trace id."},
	{Name: "leaks", Class: Service, New: func() Params { return &Leaks{} },
		Doc: "Goroutines, descriptors and memory of nodes are back at the baseline's level in time after the last fault."},
	{Name: "no-lost-writes", Class: Safety, New: func() Params { return &NoLostWrites{} },
		Doc: "Everything that was acknowledged was read back after the load had stopped, and nothing that was reported as failed was there."},
	{Name: "no-duplicates", Class: Safety, New: func() Params { return &NoDuplicates{} },
		Doc: "Nothing that was written once was read back more than once."},
	{Name: "members-agree", Class: Safety, New: func() Params { return &MembersAgree{} },
		Doc: "Every live member of a group reads the same value for each key after the load has stopped."},
	{Name: "linearizable", Class: Safety, New: func() Params { return &Linearizable{} },
		Doc: "The puts, gets and compare-and-swaps of each key could have happened one after the other, each between its call and its return (porcupine)."},
	{Name: "unique-leader", Class: Safety, New: func() Params { return &UniqueLeader{} },
		Doc: "No two members of a group claimed to lead in the same term."},
	{Name: "exits", Class: Safety, New: func() Params { return &Exits{} },
		Doc: "No program ended that neither a fault nor the harness ended. Judged in every run; to be listed only to allow deaths."},
	{Name: "promql", Class: Service, New: func() Params { return &PromQL{} },
		Doc: "The value of a PromQL expression over the run's metrics meets a bound: in a phase, while a fault holds, always, at the end, or within a time of an event."},
	{Name: "exec", Class: Safety, New: func() Params { return &Exec{} },
		Doc: "A program of yours that checks in the phase verify and prints findings as JSON lines."},
	{Name: "breaker", Class: Service, New: func() Params { return &Breaker{} },
		Doc: "A circuit breaker opens, rejects, probes and closes when it should, and not otherwise: by its state at each scrape and the calls that cross the link to its dependency."},
	{Name: "retry-amplification", Class: Service, New: func() Params { return &RetryAmplification{} },
		Doc: "The calls that cross a link for each request of a load, retries of all hops before it included, counted on the link."},
	{Name: "shed", Class: Service, New: func() Params { return &Shed{} },
		Doc: "Under overload the goodput stays, what is accepted is as fast as before, high priority comes first, and what is refused says when to come back."},
	{Name: "metastable", Class: Service, New: func() Params { return &Metastable{} },
		Doc: "The goodput comes back by itself when the cause is gone, at the load that was carried before; where it does not, the finding says what holds it down."},

	later("lease", Service, "Leases end when their owner is gone and not before."),
	later("autoscale", Service, "Replicas follow the rules of a HorizontalPodAutoscaler."),
	later("alert", Service, "An alert fires in time, or does not fire."),
	later("config", Service, "A configuration is applied everywhere, or rolled back."),
	later("tls", Service, "Certificates are checked and reloaded."),
}

// ByName finds a row of the table.
func ByName(name string) (Kind, bool) {
	for _, k := range Table {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// later is a row of an assertion that the format knows and this version cannot judge.
func later(name string, class Class, doc string) Kind {
	return Kind{Name: name, Class: class, Doc: doc, New: func() Params { return &known{} },
		Unsupported: "this version knows the assertion " + name + " but cannot judge it yet"}
}

// known holds the parameters of an assertion that cannot be judged, unread.
type known struct{ raw []byte }

func (k *known) UnmarshalJSON(b []byte) error {
	k.raw = append(k.raw[:0], b...)
	return nil
}

func (k *known) MarshalJSON() ([]byte, error) {
	if k.raw == nil {
		return []byte("{}"), nil
	}
	return k.raw, nil
}

func (*known) Validate(Scope) error { return errors.New("this version cannot judge it yet") }

func (*known) Judge(context.Context, *plan.Plan, *record.Round) Finding {
	return invalid("this version cannot judge it yet")
}
