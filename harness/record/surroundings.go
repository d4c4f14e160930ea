package record

import (
	"cmp"
	"path/filepath"
	"time"
)

// Surroundings is what the machine did for the run, and beside it, from the last one to this. The harness samples it while the
// system is under load.
type Surroundings struct {
	T     time.Duration `json:"t"`
	Round int           `json:"round"`
	For   time.Duration `json:"for"`   // the stretch that it is about, up to T
	Cores int           `json:"cores"` // of the machine
	Busy  time.Duration `json:"busy"`  // processor time that the machine's cores spent, on whatever, and what a hypervisor kept from them; not what a container engine used
	Own   time.Duration `json:"own"`   // of that, the run's: its nodes, its plane, the harness
	// Waited is how long the threads of the nodes were ready to run and had no processor, all of them added up: 1 s in a second is one
	// thread that waited all the time.
	Waited time.Duration `json:"waited"`
}

// SurroundingsFile is the file of what the machine did.
func SurroundingsFile() string { return surroundingsFile }

// Surroundings writes a sample.
func (w *Writer) Surroundings(s Surroundings) {
	if s.Round == 0 {
		s.Round = int(w.round.Load())
	}
	w.surroundings.add(s)
}

// Surroundings returns the samples of this round, in the order of time. The rows are shared: do not change them.
func (r *Round) Surroundings() ([]Surroundings, error) {
	p := r.run.surroundingRows()
	return p.byRound[r.N], p.err
}

func (r *Run) surroundingRows() *parts[Surroundings] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.surroundings == nil {
		rows, torn, err := readLines[Surroundings](filepath.Join(r.Dir, surroundingsFile))
		r.surroundings = split(rows, torn, err, func(s *Surroundings) int { return s.Round }, func(a, b *Surroundings) int { return cmp.Compare(a.T, b.T) })
	}
	return r.surroundings
}
