package scenarios

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// source draws values. Each one comes from a generator of its own, whose seed is made from the scenario's and the value's
// full name: what is added to a scenario does not change what the rest of it draws.
type source struct {
	seed uint64
	name string // "round/fault/occurrence"
}

// of is the source of something within.
func (s source) of(parts ...any) source {
	for _, p := range parts {
		s.name += fmt.Sprintf("/%v", p)
	}
	return s
}

// sum hashes seed and name. The name of the scheme is part of it, so that a new one cannot be mistaken for this.
func (s source) sum() [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "gauntlet draws 1\x00%d\x00%s", s.seed, s.name))
}

func (s source) rand() *rand.Rand {
	h := s.sum()
	return rand.New(rand.NewPCG(binary.LittleEndian.Uint64(h[0:]), binary.LittleEndian.Uint64(h[8:])))
}

// value is a seed for draws that are made while the run goes on.
func (s source) value() uint64 {
	h := s.sum()
	return binary.LittleEndian.Uint64(h[16:])
}

// span draws from a range, both ends included, in whole milliseconds where the range is wide enough for that: a plan is
// read by people.
func (s source) span(x plan.Span) plan.Duration {
	width := int64(x.Hi - x.Lo)
	if width <= 0 {
		return x.Lo
	}
	grain := int64(1)
	for _, g := range []time.Duration{time.Millisecond, time.Microsecond} {
		if width >= 20*int64(g) {
			grain = int64(g)
			break
		}
	}
	return x.Lo + plan.Duration(grain*s.rand().Int64N(width/grain+1))
}

// lasting draws how long a fault holds. It is never 0, which in a plan means something else: to the end of the phase.
func (s source) lasting(x plan.Span) plan.Duration {
	return s.span(plan.Span{Lo: max(x.Lo, min(x.Hi, plan.Duration(time.Millisecond))), Hi: x.Hi})
}

func (s source) pick(x plan.Pick) plan.Pick {
	lo, hi, ok := x.Range()
	if !ok || hi <= lo || x.Validate() != nil {
		return x // the sketch that assertions are judged by is drawn before anybody refuses the plan
	}
	return plan.Pick(strconv.Itoa(lo + s.rand().IntN(hi-lo+1)))
}

// params replaces every plan.Span and plan.Pick in v by a drawn one. v can be set.
func (s source) params(v reflect.Value) {
	switch v.Type() {
	case reflect.TypeFor[plan.Span]():
		d := s.span(v.Interface().(plan.Span))
		v.Set(reflect.ValueOf(plan.Span{Lo: d, Hi: d}))
		return
	case reflect.TypeFor[plan.Pick]():
		v.Set(reflect.ValueOf(s.pick(v.Interface().(plan.Pick))))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			s.params(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				s.of(f.Name).params(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			s.of(i).params(v.Index(i))
		}
	}
}
