package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Entry is one line for a sink: a record or a checkpoint of the trail, in the sink's format.
type Entry struct {
	// Seq is the place of the record; of a checkpoint, that of the last record it covers.
	Seq int64
	// ID is the same each time the entry is sent, and no other entry of the format has it: receivers that want each
	// entry once go by it. It stands in Text.
	ID   string
	Time time.Time
	Kind string // the record's kind, or "checkpoint"
	// Severity is that of RFC 5424, Section 6.2.1: 3 error, 4 warning, 5 notice, 6 informational.
	Severity int
	Text     []byte // one JSON object on one line, without line end
}

// CheckpointKind is the Kind of an entry that is no record.
const CheckpointKind = "checkpoint"

// Sink is somewhere else than the store where the trail goes. A sink belongs to one goroutine.
type Sink interface {
	// Append takes entries, in their order, and returns when they are taken: durable where the sink stores them itself,
	// acknowledged where the protocol has that, else handed to the network. After an error nothing is known about any of
	// them: the same entries come again, where nothing is acknowledged with earlier ones before them. An error that is a
	// *stalled says that none of them was given away, and nothing before comes again; one that is a *lost, that what was
	// taken lately is gone: it comes again at once.
	//
	// Without entries it asks whether what was taken before is safe, and whether more would be taken: a file that was
	// deleted is made again, a connection that ended is an error. It is called a few times a second.
	Append(ctx context.Context, entries []Entry) error
	// Close releases the sink, within 2 s. It returns nil only if everything that was taken is safe.
	Close() error
}

// SinkConfig is one sink as it was configured.
type SinkConfig struct {
	// Name is what the sink's cursor is kept under: 1 to 32 of a-z, 0-9 and "-". Required, unique.
	Name string
	// URL says what it is and where: its scheme is one of Sinks. Required.
	URL string
	// Format is a key of Formats. Default: native.
	Format string
	// Required makes the gateway send nothing upstream that this sink did not take. Default: false.
	Required bool
	// FromNow makes a sink without a cursor begin with the next record. Default: false, with the first of the trail.
	FromNow bool
	// Secret gives the key of the webhook's signature. Required for a webhook.
	Secret func() (string, error)
	// CAFile is the path of PEM certificates to trust beside the system's.
	CAFile string
	// Rewind is how much of what an unacknowledging sink took last comes again on a new connection. Default: 30 s.
	Rewind time.Duration
	// AllowPlainHTTP lets a webhook be called over http beyond loopback.
	AllowPlainHTTP bool
	// Stdout is what the sink stdout writes to.
	Stdout io.Writer
}

// SinkType is a row of Sinks.
type SinkType struct {
	// Doc says in one line what the sink is, beginning with the form of its URL.
	Doc string
	// Unacknowledged says that the protocol has no acknowledgement: the cursor follows Rewind behind.
	Unacknowledged bool
	// Open checks a configuration and makes the sink. It neither connects nor writes: Append does.
	Open func(*SinkConfig, *url.URL) (Sink, error)
}

// Sinks are the sinks there are, by URL scheme.
var Sinks = map[string]SinkType{
	"file":       {Doc: "file:///PATH.jsonl: JSON lines, synced; rotation and deletion are noticed", Open: openFile},
	"stdout":     {Doc: "stdout: (nothing behind it) JSON lines", Open: openStdout},
	"syslog+tcp": {Doc: "syslog+tcp://HOST:PORT: RFC 5424 over TCP (RFC 6587, octet counting)", Unacknowledged: true, Open: openSyslog},
	"syslog+tls": {Doc: "syslog+tls://HOST[:PORT]: RFC 5424 over TLS (RFC 5425), port 6514", Unacknowledged: true, Open: openSyslog},
	"https":      {Doc: "https://HOST/PATH: a webhook, JSON lines in batches, signed", Open: openWebhook},
	"http":       {Doc: "http://HOST/PATH: a webhook in the clear, on loopback", Open: openWebhook},
}

// Format writes a record as entries. line has the record's stored bytes, which must not be kept; rec is the same, parsed.
type Format func(dst []Entry, rec *Record, line []byte) []Entry

// Formats are the formats there are, by name. A
// checkpoint comes as a record of CheckpointKind with the line that the native format has for it.
var Formats = map[string]Format{"native": appendNative, "ocsf": appendOCSF}

// DefaultRewind is the default of SinkConfig.Rewind.
const DefaultRewind = 30 * time.Second

// OpenSink makes the sink that cfg describes. The error says what is wrong with the configuration.
func OpenSink(cfg *SinkConfig) (Sink, error) {
	if _, ok := Formats[cmp.Or(cfg.Format, "native")]; !ok {
		return nil, fmt.Errorf("there is no format %q: %s", cfg.Format, strings.Join(slices.Sorted(maps.Keys(Formats)), " or "))
	}
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, errors.New("the URL cannot be read: want " + schemes())
	}
	t, ok := Sinks[u.Scheme]
	switch {
	case !ok:
		return nil, fmt.Errorf("there is no sink of scheme %q: want %s", u.Scheme, schemes())
	case u.User != nil:
		return nil, errors.New("the URL holds a user or password: a secret does not stand in this file")
	case u.Fragment != "":
		return nil, errors.New("the URL has a fragment (#...): take it out")
	case cfg.Secret != nil && u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("secret is for webhooks: take it out")
	case cfg.Rewind != 0 && !t.Unacknowledged:
		return nil, errors.New("rewind is for sinks without acknowledgement (syslog): take it out")
	}
	return t.Open(cfg, u)
}

func schemes() string { return strings.Join(slices.Sorted(maps.Keys(Sinks)), ", ") }

// appendNative writes a record as it is stored, byte by byte, and a checkpoint as `scimgate audit export` does.
func appendNative(dst []Entry, rec *Record, line []byte) []Entry {
	return append(dst, Entry{Seq: rec.Seq, ID: rec.ID, Time: rec.Time, Kind: rec.Kind, Severity: severity(rec), Text: slices.Clone(line)})
}

// checkpointRecord stands for a checkpoint where a Format wants a record, and its line.
func checkpointRecord(covers int64, note string, at time.Time) (*Record, []byte) {
	line, err := json.Marshal(map[string]string{"checkpoint": note})
	if err != nil {
		line = []byte("{}") // cannot be: a text has a JSON form
	}
	return &Record{Seq: covers, ID: fmt.Sprintf("checkpoint-%d", covers), Time: at, Kind: CheckpointKind}, line
}

// severity is that of RFC 5424 for what a record tells.
func severity(r *Record) int {
	switch status := r.Answer.Status; {
	case r.Kind == Unknown, r.Action == Failed, r.Action == Interrupted, status >= http.StatusInternalServerError:
		return 3
	case r.Action == Refused, r.Action == Unauthenticated, r.Action == Abandoned, status >= http.StatusBadRequest && status != http.StatusNotFound:
		return 4
	case accountActivity[r.Action] != 0:
		return 5
	}
	return 6
}
