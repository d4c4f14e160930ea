// Package lru is a map that forgets what was not asked for longest, so that what others send cannot fill the memory.
package lru

import "container/list"

// Map holds at most a number of entries. It is not safe for concurrent use: whoever has one has a lock as well.
type Map[K comparable, V any] struct {
	most  int
	order *list.List // of *entry, the one used last in front
	byKey map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// New returns a map of at most so many entries.
func New[K comparable, V any](most int) *Map[K, V] {
	return &Map[K, V]{most: most, order: list.New(), byKey: map[K]*list.Element{}}
}

// Get returns the value of a key and counts as a use.
func (m *Map[K, V]) Get(key K) (V, bool) {
	e, ok := m.byKey[key]
	if !ok {
		var zero V
		return zero, false
	}
	m.order.MoveToFront(e)
	return e.Value.(*entry[K, V]).value, true
}

// Put sets the value of a key.
func (m *Map[K, V]) Put(key K, value V) {
	if e, ok := m.byKey[key]; ok {
		e.Value.(*entry[K, V]).value = value
		m.order.MoveToFront(e)
		return
	}
	if m.order.Len() >= m.most {
		oldest := m.order.Back()
		delete(m.byKey, oldest.Value.(*entry[K, V]).key)
		m.order.Remove(oldest)
	}
	m.byKey[key] = m.order.PushFront(&entry[K, V]{key, value})
}

// Len is the number of entries.
func (m *Map[K, V]) Len() int { return m.order.Len() }
