package rpc

import "sync"

// budget bounds retries to a share of the requests, so that they cannot become a storm: each request pays in a part of a
// retry, each retry costs one. The reserve covers the moment in which one of a few replicas stops answering.
type budget struct {
	mu     sync.Mutex
	tokens float64
}

const (
	budgetShare   = 0.2 // retries per request in the long run
	budgetReserve = 50
)

func newBudget() *budget { return &budget{tokens: budgetReserve} }

func (b *budget) request() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+budgetShare, budgetReserve)
}

func (b *budget) retry() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
