package simulator

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"scimgate/transform/scim"
)

// Entry is one request the simulator received, and what it answered.
type Entry struct {
	Time      time.Time // of arrival
	Duration  time.Duration
	Method    string
	Target    string      // path and query as received; the value of access_token is left out
	Op        scim.Op     // "" when the request could not be read
	ID        string      // of the resource asked for
	Status    int         // 0: no answer, or none yet
	RequestID string      // the X-Request-Id header
	Header    http.Header // as received; credentials are left out
	Body      []byte      // of the request; at most MaxEntryBody bytes
	Processed bool        // it was carried out: what it asked for was changed or read
	Limited   bool        // it was beyond the rate
	Fault     string      // the fault that struck it, as ParseFault has it; "" for none
	Done      bool        // the exchange is over
}

// Limits of the ledger beside its length: bytes of one body, and of all bodies and headers together.
const (
	MaxEntryBody   = 64 << 10
	maxLedgerBytes = 64 << 20
)

// other is what Calls counts requests under that could not be read.
const other = "other"

// ledger is a ring of the last entries, in order of arrival. The simulator's lock guards it.
type ledger struct {
	ring  []*Entry
	first int
	size  int
	bytes int
	calls map[string]int
}

func newLedger(length int) ledger {
	return ledger{ring: make([]*Entry, 0, min(length, 1024)), size: length, calls: map[string]int{}}
}

func (l *ledger) append(e *Entry) {
	op := string(e.Op)
	if op == "" {
		op = other
	}
	l.calls[op]++
	for l.count() > 0 && (l.count() == l.size || l.bytes+e.weight() > maxLedgerBytes) {
		l.bytes -= l.ring[l.first].weight()
		l.ring[l.first] = nil
		l.first++
	}
	if l.first > len(l.ring)/2 {
		l.ring = append(l.ring[:0], l.ring[l.first:]...)
		clear(l.ring[len(l.ring):min(cap(l.ring), len(l.ring)+l.first)])
		l.first = 0
	}
	l.ring = append(l.ring, e)
	l.bytes += e.weight()
}

func (l *ledger) count() int { return len(l.ring) - l.first }

// weight is what an entry is taken to cost in memory.
func (e *Entry) weight() int { return len(e.Body) + len(e.Target) + 64*len(e.Header) + 256 }

// Ledger returns the last requests in order of arrival, also those that still wait for their answer.
func (s *Simulator) Ledger() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Entry, 0, s.ledger.count())
	for _, e := range s.ledger.ring[s.ledger.first:] {
		c := *e
		c.Header, c.Body = e.Header.Clone(), slices.Clone(e.Body)
		out = append(out, c)
	}
	return out
}

// Calls returns how many requests arrived since the start or the last Reset, by operation; those that could not
// be read count as "other". Refused requests count too.
func (s *Simulator) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.ledger.calls)
}

// Count is how many requests for op arrived since the start or the last Reset.
func (s *Simulator) Count(op scim.Op) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.calls[string(op)]
}

// newEntry makes the entry of a request that has just arrived. Neither header nor body is kept.
func newEntry(now time.Time, method string, target *url.URL, header http.Header, body []byte) *Entry {
	h := header.Clone()
	for _, name := range []string{"Authorization", "Proxy-Authorization", "Cookie"} {
		if h.Get(name) != "" {
			scheme, _, _ := strings.Cut(h.Get(name), " ")
			if name == "Cookie" {
				scheme = ""
			}
			h.Set(name, strings.TrimSpace(scheme+" [redacted]"))
		}
	}
	return &Entry{
		Time: now, Method: method, Target: describe(target), Header: h,
		RequestID: header.Get("X-Request-Id"), Body: slices.Clone(body[:min(len(body), MaxEntryBody)]),
	}
}

// describe is the path and query without the token that may stand in the query.
func describe(u *url.URL) string {
	target := u.EscapedPath()
	if u.RawQuery == "" {
		return target
	}
	parts := strings.Split(u.RawQuery, "&")
	for i, p := range parts {
		name, _, _ := strings.Cut(p, "=")
		if plain, err := url.QueryUnescape(name); err != nil || strings.EqualFold(plain, "access_token") {
			parts[i] = name + "=[redacted]"
		}
	}
	return target + "?" + strings.Join(parts, "&")
}
