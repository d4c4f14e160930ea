package assertions

import (
	"time"
)

// slider finds the first moment after which a sliding window keeps its bounds.
//
// A quantile within a window needs no sorting: it meets its bound when enough samples meet it, so each window is a
// few counts, and the whole is linear in the samples.
type slider struct {
	figures []figure
	base    map[string]float64
	window  time.Duration
}

// slid is what a slider found.
type slid struct {
	windows   int           // different ones
	bad       int           // of these, that broke a bound
	judged    bool          // one had enough samples
	recovered bool          // the last one did not break a bound
	ttr       time.Duration // from the first start to the first window after the last bad one
	thin      bool          // a window at or after that has too few samples
}

// within reports whether it recovered in time.
func (o slid) within(d time.Duration) bool { return o.recovered && o.ttr <= d }

// need is the number of samples that a window needs.
func (s slider) need() int {
	n := 1
	for _, f := range s.figures {
		n = max(n, f.need())
	}
	return n
}

// counts of the samples in a window.
type counts struct {
	n, good int
	meet    []int // by figure: samples whose latency meets the bound
}

func (s slider) add(c *counts, x sample, d int) {
	c.n += d
	if x.ok {
		c.good += d
	}
	for i, f := range s.figures {
		if f.permille > 0 && f.holds(x.latency.Seconds(), s.base[f.name]) {
			c.meet[i] += d
		}
	}
}

// keeps reports whether a window with these counts meets every bound.
func (s slider) keeps(c *counts) bool {
	for i, f := range s.figures {
		ok := true
		switch {
		case f.permille == 0 && f.name == "throughput":
			ok = f.holds(float64(c.good)/s.window.Seconds(), s.base[f.name])
		case f.permille == 0:
			ok = f.holds(float64(c.good)/float64(c.n), s.base[f.name])
		case f.bound.Op[0] == '<':
			ok = c.meet[i] >= rank(f.permille, c.n) // those that meet it are the smallest
		default:
			ok = c.meet[i] > c.n-rank(f.permille, c.n) // those that meet it are the largest
		}
		if !ok {
			return false
		}
	}
	return true
}

// slide moves the window [s, s+window) from s = from to s+window = to over samples sorted by due time. What is in the
// window changes only where a sample leaves it, just after its due time, or enters it.
func (s slider) slide(ss []sample, from, to time.Duration) slid {
	var out slid
	last := to - s.window
	if last < from {
		return out
	}
	need := s.need()
	c := counts{meet: make([]int, len(s.figures))}
	in := 0
	for in < len(ss) && ss[in].due < from {
		in++
	}
	gone := in
	since, candidate := from, true
	for at := from; at <= last; {
		for ; in < len(ss) && ss[in].due < at+s.window; in++ {
			s.add(&c, ss[in], 1)
		}
		for ; gone < in && ss[gone].due < at; gone++ {
			s.add(&c, ss[gone], -1)
		}
		out.windows++
		enough := c.n >= need
		out.judged = out.judged || enough
		switch {
		case enough && !s.keeps(&c):
			out.bad++
			candidate, out.thin = false, false
		case !candidate:
			candidate, since = true, at
			out.thin = !enough
		default:
			out.thin = out.thin || !enough
		}
		next := last + 1
		if gone < in {
			next = min(next, ss[gone].due+1)
		}
		if in < len(ss) {
			next = min(next, ss[in].due-s.window+1)
		}
		at = next
	}
	out.recovered, out.ttr = candidate, since-from
	return out
}
