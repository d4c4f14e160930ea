package plan

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParseBound(t *testing.T) {
	for _, c := range []struct {
		text  string
		op    string
		value float64
		unit  Unit
	}{
		{">= 99.9%", ">=", 0.999, Ratio},
		{"= 100%", "=", 1, Ratio},
		{"<=100ms", "<=", 0.1, Seconds},
		{"< 1.5s", "<", 1.5, Seconds},
		{"<= 3x baseline", "<=", 3, Times},
		{">= 80% baseline", ">=", 0.8, Times},
		{">= 99.9 %baseline", ">=", 0.999, Times},
		{"<= 150% baseline", "<=", 1.5, Times},
		{">= 50/s", ">=", 50, PerSec},
		{"= 0", "=", 0, Count},
		{"> 12", ">", 12, Count},
	} {
		b, err := ParseBound(c.text)
		require.NoError(t, err, c.text)
		assert.Equal(t, c.op, b.Op, c.text)
		assert.InDelta(t, c.value, b.Value, 1e-12, c.text)
		assert.Equal(t, c.unit, b.Unit, c.text)
		assert.Equal(t, c.text, b.String())
	}
	for _, bad := range []string{"", "99%", "<= 101%", "<= -1", ">= x", "<= NaN", "= Inf%", "<= 3x", "<= 3 baseline", "<= x% baseline", "<= -5ms", ">= 1e999"} {
		_, err := ParseBound(bad)
		assert.Error(t, err, bad)
	}
}

func TestBoundHolds(t *testing.T) {
	for _, c := range []struct {
		bound            string
		below, at, above bool // of 0.5
	}{
		{"< 0.5", true, false, false}, {"<= 0.5", true, true, false}, {"= 0.5", false, true, false}, {">= 0.5", false, true, true}, {"> 0.5", false, false, true},
	} {
		b, err := ParseBound(c.bound)
		require.NoError(t, err)
		assert.Equal(t, []bool{c.below, c.at, c.above}, []bool{b.Holds(0.4), b.Holds(0.5), b.Holds(0.6)}, c.bound)
	}
	assert.False(t, Bound{}.Holds(0), "a bound that was left out holds for nothing")
}

func TestSpansComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lo := rapid.Int64Range(0, 1e12).Draw(t, "lo")
		s := Span{Duration(lo), Duration(lo + rapid.Int64Range(0, 1e12).Draw(t, "more"))}
		b, err := json.Marshal(s)
		require.NoError(t, err)
		var back Span
		require.NoError(t, json.Unmarshal(b, &back))
		assert.Equal(t, s, back)
	})
	for _, bad := range []string{"", "5", "5s..", "..5s", "5s..1s", "-1s", "1s..2s..3s"} {
		_, err := ParseSpan(bad)
		assert.Error(t, err, bad)
	}
}

func TestPick(t *testing.T) {
	for _, good := range []Pick{"", "all", "1", "1..3", "50%", "leader", "follower", "majority", "minority"} {
		assert.NoError(t, good.Validate(), good)
	}
	for _, bad := range []Pick{"0", "3..1", "-1", "0%", "101%", "boss", "1..", "NaN%"} {
		assert.Error(t, bad.Validate(), bad)
	}
	var p Pick
	require.NoError(t, json.Unmarshal([]byte("2"), &p))
	assert.Equal(t, Pick("2"), p)
}

func FuzzBound(f *testing.F) {
	for _, s := range []string{">= 99.9%", "<= 100ms", "<= 3x baseline", ">= 50/s", "= 0", "<=%", "= x baseline"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := ParseBound(s)
		if err != nil {
			return
		}
		again, err := ParseBound(b.String())
		if err != nil || again != b {
			t.Fatalf("%q came back as %q (%v)", s, b, err)
		}
		if b.Unit == Ratio && b.Value > 1 || !(b.Value >= 0) {
			t.Fatalf("%q: a value of %v", s, b.Value)
		}
	})
}

func FuzzSpan(f *testing.F) {
	f.Add("0s..2s")
	f.Add("150ms")
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := ParseSpan(s); err == nil && (v.Lo < 0 || v.Hi < v.Lo) {
			t.Fatalf("%q became %v", s, v)
		}
	})
}
