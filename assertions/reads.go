package assertions

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hasvc/gauntlet/harness/record"
)

// answers is what verify read: the last answer of each reader for each key. The reader "" is the service as a whole.
type answers struct {
	read  map[string]map[string]*record.Op // key -> reader -> the answer
	tried map[string]map[string]*record.Op // the same for attempts that got no answer
	n     int                              // answers
}

func answersOf(ops []record.Op) answers {
	a := answers{read: map[string]map[string]*record.Op{}, tried: map[string]map[string]*record.Op{}}
	for i := range ops {
		o := &ops[i]
		if !isVerify(o) {
			continue
		}
		m := a.tried
		if o.Outcome == record.OK {
			m = a.read
			a.n++
		}
		if m[o.Key] == nil {
			m[o.Key] = map[string]*record.Op{}
		}
		m[o.Key][o.Member] = o
	}
	return a
}

// isVerify reports whether an operation read something back after the load had stopped.
func isVerify(o *record.Op) bool { return o.Kind == "read" || (o.Kind == "get" && o.Verify) }

// of returns the answers that speak for a key: that of the service as a whole where there is one, else those of the
// members. A client sees the service; that members differ is a finding of its own (members-agree).
func (a answers) of(key string) []*record.Op {
	m := a.read[key]
	if o := m[""]; o != nil {
		return []*record.Op{o}
	}
	var out []*record.Op
	for _, member := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[member])
	}
	return out
}

// silent reports whether a member was asked for a key in vain, and the service itself did not answer: that member may have it.
func (a answers) silent(key string) bool {
	if a.read[key][""] != nil {
		return false
	}
	for member := range a.tried[key] {
		if member != "" && a.read[key][member] == nil {
			return true
		}
	}
	return false
}

// found reports whether a read or get had a value.
func found(o *record.Op) bool {
	if o.Found != nil {
		return *o.Found
	}
	return o.Value != "" || o.Count > 0
}

// reader names who answered.
func reader(o *record.Op) string {
	if o.Member == "" {
		return "the service"
	}
	return o.Member
}

// describe writes an operation as a line of evidence.
func describe(o *record.Op) string {
	when := fmt.Sprintf("%s..%s client %d", seconds(o.Call), seconds(o.Return), o.Client)
	var what string
	switch o.Kind {
	case "get", "read":
		what = fmt.Sprintf("%s %s by %s = ", o.Kind, o.Key, reader(o))
		if o.Kind == "get" {
			what = fmt.Sprintf("get %s = ", o.Key)
		}
		switch {
		case o.Outcome != record.OK:
			what += "?"
		case !found(o):
			what += "nothing"
		default:
			what += fmt.Sprintf("%q", o.Value)
		}
		if o.Count > 1 {
			what += fmt.Sprintf(" %d times", o.Count)
		}
	case "cas":
		what = fmt.Sprintf("cas %s from %q to %q", o.Key, o.Old, o.Value)
	default:
		what = fmt.Sprintf("%s %s = %q", o.Kind, o.Key, o.Value)
	}
	s := when + ": " + what + " " + string(o.Outcome)
	if o.Error != "" {
		s += " (" + o.Error + ")"
	}
	return s
}

// detail is one line of evidence.
func detail(what, file, line string) Evidence {
	return Evidence{What: what, File: file, Detail: line}
}
