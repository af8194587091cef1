package audit

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// syslogSink sends RFC 5424 messages over TCP or TLS, framed by octet counting (RFC 6587, Section 3.4.1; RFC 5425).
//
// Syslog has no acknowledgement. What the collector's machine has taken may be lost with it, or when the connection
// breaks; so the last SinkConfig.Rewind comes again on a new connection. A collector that hangs for longer than that
// and is then killed takes with it what lay in its buffers. One that closes the connection after we did has read all of
// it: then Close returns nil.
type syslogSink struct {
	address  string
	dialer   *net.Dialer
	tls      *tls.Config // nil: TCP alone
	hostname string
	patience time.Duration // syslogWrite, except where a test has less

	conn net.Conn
	raw  net.Conn      // conn without TLS
	gone chan struct{} // closed when the connection has ended at the other side
	why  error         // set before gone is closed; io.EOF for a proper end

	acknowledged uint64    // bytes, by the collector's machine
	since        time.Time // when that grew last, or nothing was under way
}

const (
	syslogFacility = 13 // log audit (RFC 5424, Section 6.2.1)
	syslogDial     = 5 * time.Second
	syslogWrite    = 5 * time.Second        // for the collector to take anything, before the connection is given up
	syslogSilent   = 500 * time.Millisecond // and before that is told
	syslogClose    = 1500 * time.Millisecond
	syslogTLSPort  = "6514" // RFC 5425, Section 4.1
)

func openSyslog(cfg *SinkConfig, u *url.URL) (Sink, error) {
	secure := u.Scheme == "syslog+tls"
	port := u.Port()
	if secure {
		port = cmp.Or(port, syslogTLSPort)
	}
	if u.Hostname() == "" || port == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, fmt.Errorf("want %s://HOST:PORT", u.Scheme)
	}
	if cfg.CAFile != "" && !secure {
		return nil, errors.New("caFile is for syslog+tls and webhooks: take it out")
	}
	rewind := cmp.Or(cfg.Rewind, DefaultRewind)
	s := &syslogSink{
		address: net.JoinHostPort(u.Hostname(), port), patience: syslogWrite,
		dialer: &net.Dialer{
			Timeout:         syslogDial,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: rewind / 4, Interval: rewind / 8, Count: 2},
			Control:         giveUpAfter(rewind / 2),
		},
	}
	if secure {
		var err error
		if s.tls, err = clientTLS(cfg.CAFile); err != nil {
			return nil, err
		}
		s.tls.ServerName = u.Hostname()
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	s.hostname = printable(host, 255)
	return s, nil
}

// clientTLS trusts the system's certificates and those of a file.
func clientTLS(caFile string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("caFile: %w", err)
	}
	if c.RootCAs, err = x509.SystemCertPool(); err != nil {
		c.RootCAs = x509.NewCertPool()
	}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("caFile %s has no PEM certificate", caFile)
	}
	return c, nil
}

func (s *syslogSink) Append(ctx context.Context, entries []Entry) error {
	if s.conn == nil {
		if err := s.connect(ctx); err != nil {
			return err
		}
		return s.send(ctx, entries)
	}
	select {
	case <-s.gone:
		err := fmt.Errorf("the collector closed the connection: %w", s.why)
		s.drop()
		return err
	default:
	}
	if err := s.follow(time.Now()); err != nil {
		return err
	}
	return s.send(ctx, entries)
}

// follow looks whether what was sent arrives. The kernel takes megabytes for a collector that reads nothing: only its
// machine's acknowledgements tell. Nothing is sent meanwhile.
func (s *syslogSink) follow(now time.Time) error {
	acknowledged, waiting := arrived(s.raw)
	if !waiting || acknowledged != s.acknowledged {
		s.acknowledged, s.since = acknowledged, now
		return nil
	}
	silent := now.Sub(s.since).Round(100 * time.Millisecond)
	switch {
	case silent >= s.patience:
		s.drop()
		return fmt.Errorf("the collector reads nothing: given up after %v", silent)
	case silent >= syslogSilent:
		return &stalled{fmt.Errorf("the collector reads nothing since %v", silent)}
	}
	return nil
}

func (s *syslogSink) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, syslogDial)
	defer cancel()
	conn, err := s.dialer.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("connect to the collector: %w", err)
	}
	s.raw, s.acknowledged, s.since = conn, 0, time.Now()
	if s.tls != nil {
		secure := tls.Client(conn, s.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return errors.Join(fmt.Errorf("connect to the collector: %w", err), conn.Close())
		}
		conn = secure
	}
	gone := make(chan struct{})
	s.conn, s.gone, s.why = conn, gone, nil
	go func() { // a collector says nothing: what comes is its end
		_, err := io.Copy(io.Discard, conn)
		s.why = cmp.Or(err, io.EOF)
		close(gone)
	}()
	return nil
}

func (s *syslogSink) send(ctx context.Context, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	deadline := time.Now().Add(s.patience)
	if limit, ok := ctx.Deadline(); ok && limit.Before(deadline) {
		deadline = limit
	}
	err := s.conn.SetWriteDeadline(deadline)
	conn := s.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	if err == nil {
		_, err = s.conn.Write(s.messages(entries))
	}
	if err == nil {
		return nil
	}
	s.drop()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the collector reads nothing: %w", err)
	}
	return fmt.Errorf("send to the collector: %w", err)
}

func (s *syslogSink) drop() {
	if s.conn == nil {
		return
	}
	_ = s.raw.Close() // first: closing TLS would wait to say good-bye
	_ = s.conn.Close()
	<-s.gone
	s.conn = nil
}

// Close ends the connection. A collector that ends its side in turn has read everything before.
func (s *syslogSink) Close() error {
	if s.conn == nil {
		return errors.New("there is no connection")
	}
	defer s.drop()
	half, ok := s.conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.New("the connection cannot be half closed")
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(syslogClose))
	if err := half.CloseWrite(); err != nil {
		return fmt.Errorf("end the connection: %w", err)
	}
	timer := time.NewTimer(syslogClose)
	defer timer.Stop()
	select {
	case <-s.gone:
		if errors.Is(s.why, io.EOF) {
			return nil
		}
		return s.why
	case <-timer.C:
		return errors.New("the collector does not end the connection: nobody can tell what it read")
	}
}

// messages writes entries as syslog messages. The structured data is nil: what would stand there is in the JSON, ids and
// all. There is no BOM before the message, although RFC 5424, Section 6.4 wants one before UTF-8, because it would not be
// JSON then.
func (s *syslogSink) messages(entries []Entry) []byte {
	var all, one []byte
	pid := strconv.Itoa(os.Getpid())
	for _, e := range entries {
		one = append(one[:0], '<')
		one = strconv.AppendInt(one, int64(syslogFacility*8+e.Severity), 10)
		one = append(one, ">1 "...)
		one = e.Time.UTC().AppendFormat(one, "2006-01-02T15:04:05.000000Z")
		for _, field := range [...]string{s.hostname, "scimgate", pid, printable(e.Kind, 32), "-"} {
			one = append(append(one, ' '), field...)
		}
		one = append(append(one, ' '), e.Text...)
		all = strconv.AppendInt(all, int64(len(one)), 10)
		all = append(append(all, ' '), one...)
	}
	return all
}

// printable is s as a header field: printable ASCII without spaces, bounded, "-" when there is none.
func printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return cmp.Or(s[:min(len(s), most)], "-")
}
