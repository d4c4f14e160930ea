package plane

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/hasvc/gauntlet/harness/cluster"
)

// toxicKind is a row of the table of toxics.
type toxicKind struct {
	// parse reads and checks the attributes, and returns how to make the toxic of one direction of one connection.
	// What it draws is a function of its seed.
	parse func(attributes json.RawMessage) (func(*strike) toxics.Toxic, error)
}

var toxicKinds = map[string]toxicKind{
	"bandwidth":  {parseBandwidth},
	"latency":    {parseLatency},
	"limit_data": {parseLimitData},
	"reset_peer": {parseResetPeer},
	"slicer":     {parseSlicer},
	"slow_close": {parseSlowClose},
	"timeout":    {parseTimeout},
}

// strike is one toxic in one direction of one connection.
type strike struct {
	of    *toxicLink
	pipe  *pipe
	seed  uint64
	probe bool
}

// count says that the toxic has acted: on a chunk, on an end or on a connection.
func (s *strike) count(bytes int) {
	if s.probe {
		s.of.probes.Add(1)
		return
	}
	s.of.chunks.Add(1)
	s.of.bytes.Add(uint64(bytes))
}

// cutLater has the connection closed once the stream has ended: what the toxic passed on before is delivered.
func (s *strike) cutLater() { s.pipe.cutLater.Store(true) }

// leave takes the toxic off.
func (s *strike) leave() {
	s.pipe.set(func(stages []*stage) []*stage {
		return slices.DeleteFunc(stages, func(x *stage) bool { return x.of == s.of })
	})
}

// healer is a toxic that is told when it is to be taken off.
type healer interface {
	// heal reports whether the toxic leaves by itself, or has ended the connection: then nobody takes it off.
	heal() bool
}

// toxicLink is a toxic on one link.
type toxicLink struct {
	link     AddrLink
	upstream bool
	toxicity float64
	stream   uint64 // of draws
	kind     string
	make     func(*strike) toxics.Toxic

	chunks, bytes atomic.Uint64
	probes        atomic.Uint64 // chunks of probes, which are not among the others
}

// newToxicLinks checks a toxic and returns it for each link.
func newToxicLinks(t cluster.Toxic, links []AddrLink) ([]*toxicLink, error) {
	kind, ok := toxicKinds[t.Type]
	if !ok {
		return nil, fmt.Errorf("toxic %q is none of %s", t.Type, strings.Join(slices.Sorted(maps.Keys(toxicKinds)), ", "))
	}
	var errs []error
	if t.Stream != "upstream" && t.Stream != "downstream" {
		errs = append(errs, fmt.Errorf("toxic %s: stream %q is neither upstream nor downstream", t.Type, t.Stream))
	}
	if !(t.Toxicity > 0 && t.Toxicity <= 1) {
		errs = append(errs, fmt.Errorf("toxic %s: toxicity %v is not above 0 and at most 1", t.Type, t.Toxicity))
	}
	mk, err := kind.parse(t.Attributes)
	if err != nil {
		errs = append(errs, fmt.Errorf("toxic %s: %w", t.Type, err))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var ls []*toxicLink
	for _, l := range links {
		ls = append(ls, &toxicLink{link: l, upstream: t.Stream == "upstream", toxicity: t.Toxicity, stream: streamOf(t.Seed, l), kind: t.Type, make: mk})
	}
	return ls, nil
}

// stageFor returns the toxic for one connection, or nil when the draw leaves the connection out.
func (l *toxicLink) stageFor(connection uint64, probe bool, p *pipe) *stage {
	seed := mix(l.stream, connection)
	if unit(seed) >= l.toxicity {
		return nil
	}
	t := l.make(&strike{of: l, pipe: p, seed: mix(seed, 0), probe: probe})
	s := &stage{of: l, wrapper: &toxics.ToxicWrapper{Toxic: t, Name: l.kind, Type: l.kind, Toxicity: 1}}
	if b, ok := t.(toxics.BufferedToxic); ok {
		s.wrapper.BufferSize = b.GetBufferSize()
	}
	if st, ok := t.(toxics.StatefulToxic); ok {
		s.state = st.NewState()
	}
	return s
}

// attributesInto decodes a toxic's attributes and refuses unknown ones.
func attributesInto(attributes json.RawMessage, v any) error {
	if len(attributes) == 0 {
		attributes = json.RawMessage("{}")
	}
	d := json.NewDecoder(bytes.NewReader(attributes))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("attributes: %w", err)
	}
	return nil
}

func attributeError(name string, is, least, most int64, unit string) error {
	return fmt.Errorf("%s %d must be between %d and %d %s", name, is, least, most, unit)
}

// milliseconds checks an attribute that is a time.
func milliseconds(name string, ms, least int64) (time.Duration, error) {
	if most := maxDelay.Milliseconds(); ms < least || ms > most {
		return 0, attributeError(name, ms, least, most, "ms")
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// sleepUntil returns false when the toxic was interrupted before.
func sleepUntil(due time.Time, stub *toxics.ToxicStub) bool {
	d := time.Until(due)
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stub.Interrupt:
		return false
	}
}
