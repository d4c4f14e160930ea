package lru

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMap(t *testing.T) {
	m := New[string, int](2)
	m.Put("a", 1)
	m.Put("b", 2)
	_, ok := m.Get("a")
	assert.True(t, ok)
	m.Put("c", 3)
	_, ok = m.Get("b")
	assert.False(t, ok, "a was used after it")
	m.Put("a", 4)
	got, _ := m.Get("a")
	assert.Equal(t, 4, got)
	assert.Equal(t, 2, m.Len())
}
