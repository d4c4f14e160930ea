package store

import "sync"

// local is the defect sticky-state: what should be in the store alone is kept in the memory of this replica. Its methods
// on nil, as it is without the defect, know nothing and keep nothing.
type local struct {
	mu        sync.Mutex
	orders    map[string]Order
	registers map[string]Register
}

func newLocal() *local {
	return &local{orders: map[string]Order{}, registers: map[string]Register{}}
}

// createOrder keeps the order here and nowhere else.
func (l *local) createOrder(o Order) Order {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.orders[o.ID] = o
	return o
}

func (l *local) order(id string) (Order, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o, ok := l.orders[id]; ok {
		return o, nil
	}
	return Order{}, ErrNotFound
}

func (l *local) register(key string) (Register, bool) {
	if l == nil {
		return Register{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.registers[key]
	return r, ok
}

// keepRegister remembers what this replica saw last, whatever the others write afterwards.
func (l *local) keepRegister(r Register) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.registers[r.Key] = r
}
