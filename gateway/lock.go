package gateway

import (
	"context"
	"sync"
)

// keyLock serialises what is done to one resource inside this process. Two replicas of the gateway do not see each
// other's locks: between them only If-Match and the upstream's own rules hold. The zero keyLock is ready.
type keyLock struct {
	mu   sync.Mutex
	held map[string]*lockEntry
}

type lockEntry struct {
	token   chan struct{} // has one token while nobody holds the lock
	waiting int           // holders and waiters; guarded by keyLock.mu
}

// lock waits for the key or for ctx. unlock, which is never nil, must be called once.
func (k *keyLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	if k.held == nil {
		k.held = map[string]*lockEntry{}
	}
	e := k.held[key]
	if e == nil {
		e = &lockEntry{token: make(chan struct{}, 1)}
		e.token <- struct{}{}
		k.held[key] = e
	}
	e.waiting++
	k.mu.Unlock()

	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if e.waiting--; e.waiting == 0 {
			delete(k.held, key)
		}
	}
	select {
	case <-e.token:
		return func() { e.token <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return func() {}, ctx.Err()
	}
}
