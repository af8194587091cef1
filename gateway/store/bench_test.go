package store

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
)

// benchRecord is a record as an ordinary PATCH leaves it, about 1 KiB, of a cycle over 10,000 users with three records
// for each: a read, an intent and an outcome.
func benchRecord(i int64) *audit.Record {
	value := &audit.Value{HMAC: "00112233445566778899aabbccddeeff"}
	user := i / 3 * 7919 % 10000
	rec := &audit.Record{
		RequestID: fmt.Sprintf("0195513a-%04x-7f9a-8000-%012x", i%65536, i), Connection: "default", Credential: "entra-2026", Source: "192.0.2.7:4711",
		Action: audit.Updated, Method: "PATCH", Op: "patch", ResourceType: "User",
		Subject: audit.Subject{ID: fmt.Sprintf("%08x-user", user*2654435761%4294967296), UserName: fmt.Sprintf("user.%d@contoso.com", user)},
		Plan:    "PATCH of 3 attributes",
		Calls:   []audit.Call{{Method: "PATCH", Target: "/Users/{id}", Attempt: 1, Status: 200, Started: time.UnixMicro(1_700_000_000_000_000 + i).UTC(), Duration: 12.345}},
		Answer:  audit.Answer{Status: 200}, Duration: 13.579,
	}
	for _, path := range []string{"name.givenName", "name.familyName", "title"} {
		rec.Attributes = append(rec.Attributes, audit.Attribute{Path: path, Asked: value, Sent: value, Confirmed: value})
	}
	return rec
}

// plainFile is the yardstick: a file to which one goroutine appends what waits and syncs once for all.
type plainFile struct {
	file  *os.File
	queue chan plainLine
	ended chan struct{}
}

type plainLine struct {
	line []byte
	done chan error
}

func openPlain(b *testing.B) *plainFile {
	file, err := os.Create(filepath.Join(b.TempDir(), "plain"))
	if err != nil {
		b.Fatal(err)
	}
	p := &plainFile{file: file, queue: make(chan plainLine, queueSize), ended: make(chan struct{})}
	go p.run()
	return p
}

func (p *plainFile) run() {
	defer close(p.ended)
	var buffer []byte
	for first := range p.queue {
		batch := []plainLine{first}
		buffer = append(buffer[:0], first.line...)
		for more := true; more && len(batch) < batchSize; {
			select {
			case next, ok := <-p.queue:
				if more = ok; ok {
					batch, buffer = append(batch, next), append(buffer, next.line...)
				}
			default:
				more = false
			}
		}
		_, err := p.file.Write(buffer)
		if err == nil {
			err = p.file.Sync()
		}
		for _, one := range batch {
			one.done <- err
		}
	}
}

func (p *plainFile) append(rec *audit.Record) error {
	one := plainLine{append(audit.Append(make([]byte, 0, 1024), rec), '\n'), make(chan error, 1)}
	p.queue <- one
	return <-one.done
}

// spread runs n calls on so many goroutines and returns how long all took and the slowest hundredth's latency.
func spread(b *testing.B, writers, n int, call func(i int64) error) (total, p99 time.Duration) {
	var next atomic.Int64
	var wg sync.WaitGroup
	took := make([]time.Duration, n)
	began := time.Now()
	for range writers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				start := time.Now()
				if err := call(i); err != nil {
					b.Error(err)
					return
				}
				took[i-1] = time.Since(start)
			}
		})
	}
	wg.Wait()
	total = time.Since(began)
	return total, percentile(took, 99)
}

// BenchmarkAppend writes the same records durably to the store and to a plain file, by turns in one run, because a
// shared disk has good and bad minutes. ratio is the store's throughput as a part of the file's.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := mustOpen(b, Config{Path: filepath.Join(b.TempDir(), "gate.db")})
			plain := openPlain(b)
			var seq atomic.Int64
			var inStore, inFile, worst time.Duration
			chunk, n := 200*writers, 0
			for b.Loop() {
				total, p99 := spread(b, writers, chunk, func(int64) error {
					_, err := s.Append(b.Context(), benchRecord(seq.Add(1)))
					return err
				})
				inStore, worst = inStore+total, max(worst, p99)
				total, _ = spread(b, writers, chunk, func(i int64) error { return plain.append(benchRecord(i)) })
				inFile += total
				n += chunk
			}
			close(plain.queue)
			<-plain.ended
			plain.file.Close()
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(n)/inStore.Seconds(), "records/s")
			b.ReportMetric(float64(n)/inFile.Seconds(), "file-records/s")
			b.ReportMetric(inFile.Seconds()/inStore.Seconds(), "ratio")
			b.ReportMetric(float64(worst.Microseconds())/1000, "p99-ms")
		})
	}
}

// BenchmarkLookup is the price of one question to the identity map of 10,000 users.
func BenchmarkLookup(b *testing.B) {
	s := mustOpen(b, Config{Path: filepath.Join(b.TempDir(), "gate.db")})
	var changes []identity.Change
	for i := range 10000 {
		changes = append(changes, identity.Change{Put: &identity.Entry{Upstream: "u", ResourceType: "User", ID: fmt.Sprint(i),
			UserName: fmt.Sprintf("user.%d@contoso.com", i), ExternalID: fmt.Sprintf("ext-%d", i), HasExternalID: true}})
	}
	if _, err := s.Append(b.Context(), &audit.Record{Kind: audit.Event}, changes...); err != nil {
		b.Fatal(err)
	}
	i := 0
	b.Run("id", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			i++
			if _, ok, err := s.ByID(b.Context(), identity.Key{Upstream: "u", ResourceType: "User", ID: fmt.Sprint(i % 10000)}); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("userName", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			i++
			if found, err := s.ByUserName(b.Context(), "u", "User", fmt.Sprintf("USER.%d@contoso.com", i%10000)); len(found) != 1 || err != nil {
				b.Fatal(found, err)
			}
		}
	})
}
