package plane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// maxDelay bounds a delay: the kernel keeps what is held back.
const maxDelay = 10 * time.Minute

// validateDelay returns everything that is wrong with a delay.
func validateDelay(d cluster.Delay) error {
	var errs []error
	if d.Time < 0 || d.Time > maxDelay {
		errs = append(errs, fmt.Errorf("delay: time %v is not between 0 and %v", d.Time, maxDelay))
	}
	if d.Jitter < 0 || d.Jitter > maxDelay {
		errs = append(errs, fmt.Errorf("delay: jitter %v is not between 0 and %v", d.Jitter, maxDelay))
	}
	if d.Time == 0 && d.Jitter == 0 {
		errs = append(errs, errors.New("delay: a time or a jitter is needed"))
	}
	switch d.Distribution {
	case "", "uniform", "normal", "pareto":
	default:
		errs = append(errs, fmt.Errorf("delay: distribution %q is none of uniform, normal, pareto", d.Distribution))
	}
	return errors.Join(errs...)
}

// delayOf returns how long the packet with index n of a stream is held back: a pure function of its arguments. As
// with netem, jitter is the half width of uniform and the standard deviation of normal, each packet is drawn for
// itself, and so jitter lets packets overtake one another; a delay without jitter never does.
func delayOf(d cluster.Delay, stream, n uint64) time.Duration {
	if d.Jitter == 0 {
		return d.Time
	}
	u := unit(mix(stream, n))
	var v float64 // in units of jitter
	switch d.Distribution {
	case "normal":
		v = math.Sqrt2 * math.Erfinv(2*u-1)
	case "pareto": // netem's table: a Pareto of shape 3 moved to mean 0 and scaled by 4/3
		v = (math.Pow(u, -1.0/3) - 1.5) * 4 / 3
	default:
		v = 2*u - 1
	}
	v = min(max(v, -tableEnd), tableEnd)
	return max(0, d.Time+time.Duration(v*float64(d.Jitter)))
}

// tableEnd is where netem's tables end, in units of jitter.
const tableEnd = 4

// longestOf is the least that no delayOf exceeds, whatever the distribution.
func longestOf(d cluster.Delay) time.Duration { return d.Time + tableEnd*d.Jitter }

// streamOf gives each link of a rule draws of its own.
func streamOf(seed uint64, l AddrLink) uint64 {
	from, to := l.From.As4(), l.To.As4()
	return mix(seed, uint64(binary.BigEndian.Uint32(from[:]))<<32|uint64(binary.BigEndian.Uint32(to[:])))
}

// mix is a step of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014) from a state
// made of both arguments.
func mix(a, b uint64) uint64 {
	z := a + (b+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// unit maps x to the open interval (0,1).
func unit(x uint64) float64 { return (float64(x>>11) + 0.5) / (1 << 53) }
