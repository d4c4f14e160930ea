package record

import "net/url"

// The files of a run directory, as paths in it.
const (
	metaFile         = "meta.json"
	planFile         = "plan.json"
	eventsFile       = "events.jsonl"
	leadersFile      = "leaders.jsonl"
	readinessFile    = "readiness.jsonl"
	callsFile        = "calls.jsonl"
	surroundingsFile = "surroundings.jsonl"
)

// MetricsDir is the directory of the run's metrics, a TSDB.
const MetricsDir = "metrics"

// requestFiles are the two files of a load. Names are escaped, so that one with a slash stays in its directory.
func requestFiles(load string) (bin, side string) {
	n := "requests/" + url.PathEscape(load)
	return n + ".bin", n + ".jsonl"
}

func historyFile(workload string) string { return "histories/" + url.PathEscape(workload) + ".jsonl" }
