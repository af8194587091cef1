package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
)

// stdoutSink writes JSON lines to standard output, for whoever collects the output of processes. What reads there takes
// what was written: a pipe that is full blocks this sink, and nothing else.
type stdoutSink struct {
	w    io.Writer
	torn bool // the last line was not written to its end
}

func openStdout(cfg *SinkConfig, u *url.URL) (Sink, error) {
	if u.Opaque != "" || u.Host != "" || u.Path != "" || u.RawQuery != "" {
		return nil, errors.New("want stdout: with nothing behind it")
	}
	return &stdoutSink{w: cfg.Stdout}, nil
}

func (s *stdoutSink) Append(_ context.Context, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	var lines []byte
	if s.torn {
		lines = append(lines, '\n')
	}
	n, err := s.w.Write(appendLines(lines, entries))
	if err != nil {
		s.torn = s.torn || n > 0
		return fmt.Errorf("write to standard output: %w", err)
	}
	s.torn = false
	return nil
}

func (s *stdoutSink) Close() error { return nil }
