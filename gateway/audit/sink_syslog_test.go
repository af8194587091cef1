package audit

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// collector is a syslog server for octet counting. While hung it reads nothing.
type collector struct {
	receiver
	t     *testing.T
	line  net.Listener
	gate  sync.RWMutex // held for writing while it hangs
	conns sync.WaitGroup

	mu   sync.Mutex
	open []net.Conn
	hung bool
}

// hang lets it read nothing from now on, or go on.
func (c *collector) hang(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case on && !c.hung:
		c.gate.Lock()
	case !on && c.hung:
		c.gate.Unlock()
	}
	c.hung = on
}

func collect(t *testing.T, address string, config *tls.Config) *collector {
	t.Helper()
	line, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if config != nil {
		line = tls.NewListener(line, config)
	}
	c := &collector{t: t, line: line}
	c.conns.Go(func() {
		for {
			conn, err := line.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.open = append(c.open, conn)
			c.mu.Unlock()
			c.conns.Go(func() { c.serve(conn) })
		}
	})
	t.Cleanup(c.kill)
	return c
}

var header = regexp.MustCompile(`^<1[01][0-9]>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [!-~]+ scimgate \d+ [a-z]+ - (\{.*)$`)

// pass waits while the collector hangs.
func (c *collector) pass() {
	c.gate.RLock()
	defer c.gate.RUnlock()
}

func (c *collector) serve(conn net.Conn) {
	defer conn.Close()
	add := c.begin()
	in := bufio.NewReaderSize(conn, 1<<10)
	for {
		c.pass()
		digits, err := in.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSpace(digits))
		if err != nil {
			c.t.Errorf("got length %q", digits)
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(in, message); err != nil {
			return
		}
		m := header.FindSubmatch(message)
		if m == nil {
			c.t.Errorf("got message %.200q", message)
			return
		}
		add(string(m[1]))
	}
}

// kill ends the collector as a process that dies: what it has not read is gone.
func (c *collector) kill() {
	c.line.Close()
	c.mu.Lock()
	for _, conn := range c.open {
		conn.Close()
	}
	c.mu.Unlock()
	c.hang(false)
	c.conns.Wait()
}

func (c *collector) has(n int) func() bool {
	return func() bool { lines, _ := c.once(); return len(lines) >= n }
}

func (c *collector) address() string { return c.line.Addr().String() }

// The collector is killed and started again under 25 requests a second; what its connection had taken comes again.
func TestSyslogKilledCollector(t *testing.T) {
	trail := newWorldTrail()
	first := collect(t, "127.0.0.1:0", nil)
	feeds, stop := run(t, trail, SinkConfig{Name: "siem", URL: "syslog+tcp://" + first.address(), Rewind: 5 * time.Second})
	load(t, trail, 50, time.Second, nil)
	first.kill()
	load(t, trail, 50, time.Second, nil)
	if problem := feeds.States()[0].Problem; problem == "" {
		t.Error("a second after the collector died nothing is known to be wrong")
	}
	// What the first collector had stored is on its disk; the second has one of its own.
	second := collect(t, first.address(), nil)
	load(t, trail, 50, 500*time.Millisecond, nil)
	want := trail.lines()
	eventually(t, 10*time.Second, "the second collector has everything", second.has(len(want)))
	second.check(t, want)
	stop()
	if c := trail.cursors["siem"]; c.Seq != int64(len(want)) {
		t.Errorf("after the collector closed in turn: got cursor %d, want %d", c.Seq, len(want))
	}
}

// A collector that hangs holds up neither the path nor the other sinks; it is told, and nothing is lost, whether it goes on
// or is killed.
func TestSyslogHungCollector(t *testing.T) {
	for name, killed := range map[string]bool{"goes on": false, "is killed": true} {
		t.Run(name, func(t *testing.T) {
			trail := newWorldTrail()
			c := collect(t, "127.0.0.1:0", nil)
			path := filepath.Join(t.TempDir(), "t.jsonl")
			feeds, err := NewFeeds(FeedsConfig{Store: trail, Logger: quiet, Sinks: []SinkConfig{
				{Name: "siem", URL: "syslog+tcp://" + c.address(), Rewind: 20 * time.Second},
				{Name: "file", URL: "file://" + path, Required: true},
			}})
			if err != nil {
				t.Fatal(err)
			}
			feeds.feeds[0].sink.(*syslogSink).patience = 2 * time.Second
			stop := start(t, feeds)
			c.hang(true)
			slowest := time.Duration(0)
			big := strings.Repeat("x", 200<<10) // so that the buffers between the two are full soon
			var told time.Duration
			began := time.Now()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for time.Since(began) < 3*time.Second {
				<-tick.C
				seq := trail.add(Record{Error: big})
				asked := time.Now()
				if err := feeds.Taken(t.Context(), seq); err != nil {
					t.Fatal(err)
				}
				slowest = max(slowest, time.Since(asked))
				if told == 0 && feeds.States()[0].Problem != "" {
					told = time.Since(began)
				}
			}
			if told == 0 || slowest > time.Second {
				t.Errorf("told after %v, slowest wait for the other sink %v; want told, and none above 1 s", told, slowest)
			}
			t.Logf("told after %v of silence; slowest wait for the other sink %v", told.Round(time.Millisecond), slowest.Round(time.Millisecond))
			if killed {
				address := c.address()
				c.kill()
				c = collect(t, address, nil)
			}
			c.hang(false)
			want := trail.lines()
			eventually(t, 30*time.Second, "the collector has everything", c.has(len(want)))
			c.check(t, want)
			stop()
		})
	}
}

func TestSyslogTLS(t *testing.T) {
	cert, ca := selfSigned(t)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	trail := newWorldTrail()
	c := collect(t, "127.0.0.1:0", config)
	url := "syslog+tls://" + c.address()
	feeds, stop := run(t, trail, SinkConfig{Name: "siem", URL: url, CAFile: ca}, SinkConfig{Name: "stranger", URL: url})
	load(t, trail, 50, 500*time.Millisecond, nil)
	first := c
	c.kill()
	c = collect(t, first.address(), config)
	load(t, trail, 50, 500*time.Millisecond, nil)
	want := trail.lines()
	eventually(t, 10*time.Second, "the collector has everything", c.has(len(want)))
	if problem := feeds.States()[1].Problem; !strings.Contains(problem, "certificate") {
		t.Errorf("without the CA: got problem %q, want one of the certificate", problem)
	}
	stop()
	if got := trail.cursors["siem"].Seq; got != int64(len(want)) {
		t.Errorf("got cursor %d, want %d: the collector closed in turn", got, len(want))
	}
}

// selfSigned makes a certificate for 127.0.0.1 and a file that trusts it.
func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "collector"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

// A collector that does not end its side leaves open what it read: the cursor stays behind.
func TestSyslogCloseUnanswered(t *testing.T) {
	c := collect(t, "127.0.0.1:0", nil)
	s, err := OpenSink(&SinkConfig{URL: "syslog+tcp://" + c.address()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), []Entry{{Text: []byte("{}"), Kind: Outcome}}); err != nil {
		t.Fatal(err)
	}
	c.hang(true)
	if err := s.Append(t.Context(), []Entry{{Text: []byte("{}"), Kind: Outcome}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err == nil {
		t.Error("Close: got nil, want that nobody can tell what was read")
	}
}

// The end of the context ends a write that hangs.
func TestSyslogCancelled(t *testing.T) {
	c := collect(t, "127.0.0.1:0", nil)
	c.hang(true)
	s, err := OpenSink(&SinkConfig{URL: "syslog+tcp://" + c.address()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	timer := time.AfterFunc(200*time.Millisecond, cancel)
	defer timer.Stop()
	huge := []Entry{{Text: make([]byte, 64<<20)}}
	if err := s.Append(ctx, huge); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want that the collector reads nothing", err)
	}
}
