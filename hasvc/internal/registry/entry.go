// Package registry keeps the list of replicas in etcd: each registers itself under a lease, and who calls them watches.
package registry

import (
	"encoding/json"
	"fmt"
)

const prefix = "/hasvc/registry/"

// Entry is one replica.
type Entry struct {
	Service  string `json:"service"`
	Instance string `json:"instance"` // unique among the service's replicas
	Addr     string `json:"addr"`     // host:port
}

func (e Entry) key() string { return prefix + e.Service + "/" + e.Instance }

func (e Entry) encode() (string, error) {
	b, err := json.Marshal(e)
	return string(b), err
}

// decode reads an entry of the registry.
func decode(b []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(b, &e); err != nil {
		return Entry{}, fmt.Errorf("reading an entry of the registry: %w", err)
	}
	if e.Addr == "" {
		return Entry{}, fmt.Errorf("reading an entry of the registry: it has no address")
	}
	return e, nil
}
