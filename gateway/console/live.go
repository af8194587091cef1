package console

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"scimgate/gateway/audit"
)

const (
	liveEvery  = 2 * time.Second  // how often figures are made anew, and a stream is asked whether its reader is still signed in
	liveBeat   = 15 * time.Second // after which a quiet stream shows that it is alive
	liveWrite  = 10 * time.Second // that a reader may take to receive one event
	liveBehind = 10_000           // records that a live tail makes up for: who was away for longer loads the page again
)

// stream is an answer of server-sent events.
type stream struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	sent time.Time // of the last event
	fail error
}

// openStream begins a stream, nil where there is none and the answer is given. Its place is given back with closeStream.
func (c *Console) openStream(w http.ResponseWriter, r *http.Request) *stream {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream")
		return nil
	}
	select {
	case c.streams <- struct{}{}:
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, "As many pages are live as the console takes on: close one.", http.StatusServiceUnavailable)
		return nil
	}
	s := &stream{w: w, rc: http.NewResponseController(w)}
	// The server's time-outs are for requests that end.
	if err := s.rc.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.fail = err
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy in front would hold events back
	w.WriteHeader(http.StatusOK)
	s.send("", "open", nil)
	return s
}

func (c *Console) closeStream() { <-c.streams }

// goOn ends a stream whose reader is no longer signed in, and shows on a quiet one that it is alive.
func (c *Console) goOn(s *stream, r *http.Request) bool {
	switch {
	case !c.goesOn(r):
		s.send("", "end", nil)
		return false
	case time.Since(s.sent) >= liveBeat:
		s.send("", "beat", nil)
	}
	return s.fail == nil
}

// send writes one event; after an error nothing more.
func (s *stream) send(id, name string, body []byte) {
	if s.fail != nil {
		return
	}
	var b bytes.Buffer
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	b.WriteString("event: " + name + "\n")
	for line := range bytes.SplitSeq(body, []byte("\n")) {
		b.WriteString("data: ")
		b.Write(bytes.ReplaceAll(line, []byte("\r"), []byte(" ")))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	s.sent = time.Now()
	_ = s.rc.SetWriteDeadline(s.sent.Add(liveWrite)) // not every writer has one
	if _, s.fail = s.w.Write(b.Bytes()); s.fail == nil {
		s.fail = s.rc.Flush()
	}
}

// liveTrail sends the rows of new records that the filters select.
func (c *Console) liveTrail(w http.ResponseWriter, r *http.Request) {
	given := r.URL.Query()
	_, q, problems := readFilters(given, c.cfg.Clock())
	after, err := strconv.ParseInt(given.Get("after"), 10, 64)
	if last, again := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64); again == nil {
		after, err = last, nil
	}
	if err != nil || after < 0 || len(problems) > 0 {
		http.Error(w, "The address of this stream cannot be read: open the trail anew.", http.StatusBadRequest)
		return
	}
	st, err := c.cfg.Trail.Stats(r.Context())
	if err != nil {
		http.Error(w, "The trail cannot be read now.", http.StatusServiceUnavailable)
		return
	}
	s := c.openStream(w, r)
	if s == nil {
		return
	}
	defer c.closeStream()
	if st.Newest-after > liveBehind {
		s.send("", "behind", nil)
		return
	}
	q.After, q.Limit, q.Newest = after, 0, false
	ctx, cancel := context.WithCancel(r.Context())
	records := make(chan *audit.Record)
	var reader sync.WaitGroup
	reader.Go(func() { c.follow(ctx, q, records) })
	defer reader.Wait()
	defer cancel()
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	for s.fail == nil {
		var rec *audit.Record
		more := true
		select {
		case <-tick.C:
		case rec, more = <-records:
		}
		if !more || !c.goOn(s, r) {
			return
		}
		if rec == nil {
			continue
		}
		body, err := c.fragment("trail", "row", row{rec, link(rec.Seq)})
		if err != nil {
			c.cfg.Logger.Error("a live part of the console cannot be made", "error", err)
			return
		}
		s.send(digits(rec.Seq), "add", body)
	}
}

// follow hands on new records until ctx ends or the trail cannot be read.
func (c *Console) follow(ctx context.Context, q audit.Query, to chan<- *audit.Record) {
	defer close(to)
	for rec, err := range c.cfg.Trail.Follow(ctx, q) {
		if err != nil {
			c.cfg.Logger.Warn("a live page of the console ends: the trail cannot be followed", "error", err)
			return
		}
		select {
		case to <- rec:
		case <-ctx.Done():
			return
		}
	}
}

func (c *Console) liveOverview(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Query().Get("range")
	c.liveFigures(w, r, func() ([]byte, error) { return c.fragment("overview", "figures", c.overview(r.Context(), asked)) })
}

func (c *Console) liveCycles(w http.ResponseWriter, r *http.Request) {
	c.liveFigures(w, r, func() ([]byte, error) { return c.fragment("cycles", "figures", c.cyclesView()) })
}

// liveFigures sends a part of a page whenever it has changed.
func (c *Console) liveFigures(w http.ResponseWriter, r *http.Request, make func() ([]byte, error)) {
	s := c.openStream(w, r)
	if s == nil {
		return
	}
	defer c.closeStream()
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	var last []byte
	for s.fail == nil {
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
		if !c.goOn(s, r) {
			return
		}
		body, err := make()
		if err != nil {
			c.cfg.Logger.Error("a live part of the console cannot be made", "error", err)
			return
		}
		if !bytes.Equal(body, last) {
			last = body
			s.send("", "replace", body)
		}
	}
}
