package command

import "sync"

// bounded counts what is written to it, and calls over once that is too much.
type bounded struct {
	mu   sync.Mutex
	left int
	over func()
}

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left -= len(p); b.left < 0 {
		b.over()
	}
	return len(p), nil
}

func (b *bounded) reached() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left < 0
}
