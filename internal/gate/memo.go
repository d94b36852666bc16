package gate

import (
	"maps"
	"sync"
)

// memo remembers something of at most so many grants; beyond that it forgets some.
type memo[V any] struct {
	mu sync.Mutex
	m  map[string]V
}

const maxMemo = 20_000

func (m *memo[V]) put(id string, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		m.m = map[string]V{}
	}
	if _, there := m.m[id]; !there && len(m.m) >= maxMemo {
		for other := range m.m {
			delete(m.m, other)
			break
		}
	}
	m.m[id] = v
}

func (m *memo[V]) get(id string) (v V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok = m.m[id]
	return v, ok
}

func (m *memo[V]) has(id string) bool {
	_, ok := m.get(id)
	return ok
}

// take is get, and forgets it.
func (m *memo[V]) take(id string) (v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v = m.m[id]
	delete(m.m, id)
	return v
}

func (m *memo[V]) all() map[string]V {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.m)
}
