package rpc

import "sync"

// budget bounds retries to a share of the requests, so that they cannot become a storm: each request pays in a part of a
// retry, each retry costs one. A tenth is the field's advice (Google's SRE book, Handling Overload: a retry budget of 10 %): at
// worst the load on a service in trouble grows by as much. The reserve covers the moment in which one of a few replicas stops
// answering.
type budget struct {
	share  float64 // retries per request in the long run
	mu     sync.Mutex
	tokens float64
}

const budgetReserve = 50

func newBudget(share float64) *budget { return &budget{share: share, tokens: budgetReserve} }

func (b *budget) request() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+b.share, budgetReserve)
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
