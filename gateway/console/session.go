package console

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"sync"
	"time"
)

const (
	sessionAge   = 12 * time.Hour // after which everybody signs in again
	sessionIdle  = time.Hour      // without a request
	mostSessions = 128
)

// sessions are the people who have signed in, in memory only: a new process knows none. A session is known by the SHA-256
// of its id, and ends when the admin token is another than at its sign-in.
type sessions struct {
	now func() time.Time

	mu   sync.Mutex
	byID map[[32]byte]*session
}

type session struct {
	opened, used time.Time
	token        [32]byte
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, byID: map[[32]byte]*session{}}
}

// open makes a session if the token presented is the token wanted. They are compared in constant time.
func (s *sessions) open(presented, want string) (id string, ok bool) {
	sum, wanted := sha256.Sum256([]byte(presented)), sha256.Sum256([]byte(want))
	if subtle.ConstantTimeCompare(sum[:], wanted[:]) != 1 || presented == "" {
		return "", false
	}
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	id = hex.EncodeToString(random[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var oldest [32]byte
	for key, one := range s.byID {
		if one.over(now) {
			delete(s.byID, key)
		} else if s.byID[oldest] == nil || one.used.Before(s.byID[oldest].used) {
			oldest = key
		}
	}
	if len(s.byID) >= mostSessions {
		delete(s.byID, oldest)
	}
	s.byID[sha256.Sum256([]byte(id))] = &session{opened: now, used: now, token: wanted}
	return id, true
}

// valid reports whether a session goes on. Used says that this is a use of it.
func (s *sessions) valid(id, token string, used bool) bool {
	sum := sha256.Sum256([]byte(token))
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sha256.Sum256([]byte(id))
	one, now := s.byID[key], s.now()
	switch {
	case one == nil:
		return false
	case one.over(now) || subtle.ConstantTimeCompare(one.token[:], sum[:]) != 1:
		delete(s.byID, key)
		return false
	}
	if used {
		one.used = now
	}
	return true
}

func (s *sessions) close(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, sha256.Sum256([]byte(id)))
}

func (one *session) over(now time.Time) bool {
	return now.Sub(one.opened) >= sessionAge || now.Sub(one.used) >= sessionIdle
}

const (
	attemptsEach = 5  // failed sign-ins in a minute from one address
	attemptsAll  = 60 // and from all of them
)

// attempts limits failed sign-ins. The minutes are those of the clock, so that nothing is kept beyond one.
type attempts struct {
	now func() time.Time

	mu       sync.Mutex
	minute   time.Time
	all      int
	bySource map[string]int
}

func newAttempts(now func() time.Time) *attempts {
	return &attempts{now: now, bySource: map[string]int{}}
}

// take counts an attempt, or tells how long to wait for the next. One that succeeds is given back with refund.
func (a *attempts) take(source string) (wait time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if minute := now.Truncate(time.Minute); !minute.Equal(a.minute) {
		a.minute, a.all = minute, 0
		clear(a.bySource)
	}
	if a.all >= attemptsAll || a.bySource[source] >= attemptsEach {
		return a.minute.Add(time.Minute).Sub(now), false
	}
	a.all++
	a.bySource[source]++
	return 0, true
}

func (a *attempts) refund(source string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bySource[source] > 0 {
		a.all--
		a.bySource[source]--
	}
}
