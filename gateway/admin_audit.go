package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// The audit API reads the trail: GET /api/v1/audit/records is a page of those that its parameters select, newest first,
// and GET /api/v1/audit/records/ID is one, by its id or its place. It is for programs: a page of another site gets nothing
// from it, and there are no headers that would let one.
const (
	auditRecords  = "/api/v1/audit/records"
	auditPage     = 100
	auditMostPage = 1000
	auditBytes    = 4 << 20          // a page that has as many ends, and the next one goes on
	auditDeadline = 20 * time.Second // for one page
)

// apiProblem is what is wrong with a request, in words and, where it is a parameter, by its name and its place in the query.
type apiProblem struct {
	Error     string `json:"error"`
	Parameter string `json:"parameter,omitempty"`
	Position  int    `json:"position,omitempty"` // of the value's first character, from 1 behind the question mark
}

// auditAPI adds the routes of the audit API.
func (cfg *AdminConfig) auditAPI(routes map[string]http.Handler) {
	routes["GET "+auditRecords] = cfg.api(cfg.listRecords)
	routes["GET "+auditRecords+"/{id}"] = cfg.api(cfg.oneRecord)
	routes["/api/"] = cfg.api(func(w http.ResponseWriter, r *http.Request) {
		known := r.URL.Path == auditRecords || strings.HasPrefix(r.URL.Path, auditRecords+"/") && strings.Count(r.URL.Path, "/") == strings.Count(auditRecords, "/")+1
		if known && r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			writeJSON(w, http.StatusMethodNotAllowed, apiProblem{Error: "the trail can only be read: use GET"})
			return
		}
		writeJSON(w, http.StatusNotFound, apiProblem{Error: "there is no such address: " + auditRecords + " lists records, and " + auditRecords + "/ID is one"})
	})
}

// api lets a request through that comes with the admin token, under a name of ours and from no other site.
func (cfg *AdminConfig) api(next http.HandlerFunc) http.Handler {
	return cfg.own(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cfg.Token == nil {
			writeJSON(w, http.StatusForbidden, apiProblem{Error: "no admin token is configured, and without one nobody may read the trail here: set admin.token or SCIMGATE_ADMIN_TOKEN"})
			return
		}
		cfg.guard(next).ServeHTTP(w, r)
	}))
}

// own lets a request through that names this listener and that no page of another site has made.
func (cfg *AdminConfig) own(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		switch {
		case !cfg.ownHost(r.Host):
			writeJSON(w, http.StatusMisdirectedRequest, apiProblem{Error: "the name in the address is none of this listener's: use its IP address or localhost, or configure the name under admin.hosts"})
		case foreign(r):
			writeJSON(w, http.StatusForbidden, apiProblem{Error: "the request was made by a page of another site, and is refused"})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// ownHost reports whether a Host header may name this listener. An address cannot be rebound to another machine; a name
// can.
func (cfg *AdminConfig) ownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return strings.EqualFold(host, "localhost") || slices.ContainsFunc(cfg.Hosts, func(own string) bool { return strings.EqualFold(own, host) })
}

// foreign reports whether a browser says that another site's page made the request.
func foreign(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) > 0 {
		if u, err := url.Parse(origins[0]); err != nil || len(origins) > 1 || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
			return true
		}
	}
	site := r.Header.Get("Sec-Fetch-Site")
	return site != "" && site != "same-origin" && site != "none"
}

func (cfg *AdminConfig) listRecords(w http.ResponseWriter, r *http.Request) {
	q, key, problem := readAuditQuery(r.URL.RawQuery, time.Now())
	if problem != nil {
		writeJSON(w, http.StatusBadRequest, problem)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), auditDeadline)
	defer cancel()
	page := q.Limit
	q.Limit++ // one more tells whether there is another page
	body := bytes.NewBufferString(`{"records":[`)
	n, last, more := 0, int64(0), false
	var line []byte
	for rec, err := range cfg.Trail.Search(ctx, q) {
		if err != nil {
			cfg.unreadable(ctx, w, r, err)
			return
		}
		if more = n == page || body.Len() > auditBytes; more {
			break
		}
		if n++; n > 1 {
			body.WriteByte(',')
		}
		line = audit.Append(line[:0], rec)
		body.Write(line)
		last = rec.Seq
	}
	body.WriteByte(']')
	if more {
		fmt.Fprintf(body, `,"next":%q`, auditCursor(key, last))
	}
	body.WriteString("}\n")
	writeBody(w, body.Bytes())
}

func (cfg *AdminConfig) oneRecord(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), auditDeadline)
	defer cancel()
	id := r.PathValue("id")
	var found *audit.Record
	var err error
	if seq, bad := strconv.ParseInt(id, 10, 64); bad == nil {
		found, err = cfg.Trail.Get(ctx, seq)
	} else if _, err = audit.TimeOfID(id); err != nil {
		writeJSON(w, http.StatusBadRequest, apiProblem{Error: audit.Clip(id) + ": " + err.Error() + ", nor a place in the trail"})
		return
	} else {
		for found, err = range cfg.Trail.Search(ctx, audit.Query{ID: id, Limit: 1}) {
			break
		}
	}
	switch {
	case errors.Is(err, store.ErrNotFound): // and says whether it was pruned
		writeJSON(w, http.StatusNotFound, apiProblem{Error: err.Error()})
	case err != nil:
		cfg.unreadable(ctx, w, r, err)
	case found == nil:
		writeJSON(w, http.StatusNotFound, apiProblem{Error: "the trail has no record with this id"})
	default:
		writeBody(w, append(audit.Append(nil, found), '\n'))
	}
}

// unreadable answers for a search that did not come to its end.
func (cfg *AdminConfig) unreadable(ctx context.Context, w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody waits
	}
	if ctx.Err() != nil {
		writeJSON(w, http.StatusServiceUnavailable, apiProblem{Error: fmt.Sprintf("the search took longer than %s: narrow it with since and until", auditDeadline)})
		return
	}
	writeJSON(w, http.StatusServiceUnavailable, apiProblem{Error: err.Error()})
}

func writeBody(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // the client is gone when this fails
}

// auditParameter reads one parameter into a query.
type auditParameter func(q *audit.Query, value string, now time.Time) error

// auditParameters are the parameters of the audit API; beside them there is cursor.
var auditParameters = map[string]auditParameter{
	"user":       func(q *audit.Query, v string, _ time.Time) error { q.User = v; return nil },
	"action":     func(q *audit.Query, v string, _ time.Time) error { q.Action = v; return nil },
	"rule":       func(q *audit.Query, v string, _ time.Time) error { q.Rule = v; return nil },
	"credential": func(q *audit.Query, v string, _ time.Time) error { q.Credential = v; return nil },
	"connection": func(q *audit.Query, v string, _ time.Time) error { q.Connection = v; return nil },
	"request":    func(q *audit.Query, v string, _ time.Time) error { q.RequestID = v; return nil },
	"hash": func(q *audit.Query, v string, _ time.Time) error {
		q.Hashes = v
		if b, err := hex.DecodeString(v); err != nil || len(b) != 16 || v != strings.ToLower(v) {
			return errors.New("want 32 hexadecimal digits, as `scimgate audit hash` prints them")
		}
		return nil
	},
	"id": func(q *audit.Query, v string, _ time.Time) (err error) {
		q.ID = v
		_, err = audit.TimeOfID(v)
		return err
	},
	"kind":    func(q *audit.Query, v string, _ time.Time) error { q.Kind = v; return among(v, audit.Kinds) },
	"outcome": func(q *audit.Query, v string, _ time.Time) error { q.Outcome = v; return among(v, audit.Outcomes) },
	"order": func(q *audit.Query, v string, _ time.Time) error {
		q.Newest = v == "newest"
		return among(v, []string{"newest", "oldest"})
	},
	"status": func(q *audit.Query, v string, _ time.Time) (err error) {
		q.Status, err = between(v, 100, 599)
		return err
	},
	"limit": func(q *audit.Query, v string, _ time.Time) (err error) {
		q.Limit, err = between(v, 1, auditMostPage)
		return err
	},
	"since": func(q *audit.Query, v string, now time.Time) (err error) {
		q.Since, err = moment(v, now)
		return err
	},
	"until": func(q *audit.Query, v string, now time.Time) (err error) {
		q.Until, err = moment(v, now)
		return err
	},
}

func among(v string, words []string) error {
	if slices.Contains(words, v) {
		return nil
	}
	return fmt.Errorf("want one of %s", strings.Join(words, ", "))
}

func between(v string, least, most int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("want a number from %d to %d", least, most)
	}
	return n, nil
}

func moment(v string, now time.Time) (time.Time, error) {
	t, err := audit.Moment(v, now)
	if err != nil && strings.Contains(v, " ") {
		err = fmt.Errorf("%w; a plus sign is written %%2B here", err)
	}
	return t, err
}

// readAuditQuery reads a query string. key is what the pages of one search have in common.
func readAuditQuery(raw string, now time.Time) (q audit.Query, key string, problem *apiProblem) {
	q = audit.Query{Newest: true, Limit: auditPage}
	cursor, cursorAt := "", 0
	places := map[string]int{}
	var parts []string
	for at := 0; at <= len(raw); {
		part, _, _ := strings.Cut(raw[at:], "&")
		begins := at + 1
		at += len(part) + 1
		if part == "" {
			continue
		}
		name, value, found := strings.Cut(part, "=")
		begins += len(name)
		if found {
			begins++
		}
		name, value, problem = unescape(name, value, begins)
		if problem != nil {
			return q, "", problem
		}
		refuse := func(format string, args ...any) *apiProblem {
			return &apiProblem{fmt.Sprintf(format, args...), audit.Clip(name), begins}
		}
		read, ok := auditParameters[name]
		switch {
		case !ok && name != "cursor":
			return q, "", refuse("%s: there is no such parameter; want one of %s", audit.Clip(name), parameterNames())
		case places[name] != 0:
			return q, "", refuse("%s: it is given twice, at %d and %d", name, places[name], begins)
		case value == "":
			return q, "", refuse("%s: it has no value: leave it out", name)
		case len(value) > audit.ClipLimit:
			return q, "", refuse("%s: it is longer than anything in the trail (%d bytes)", name, audit.ClipLimit)
		}
		places[name] = begins
		if name == "cursor" {
			cursor, cursorAt = value, begins
			continue
		}
		if err := read(&q, value, now); err != nil {
			return q, "", refuse("%s: %s: %s", name, value, err)
		}
		if name != "limit" {
			parts = append(parts, name+"="+value)
		}
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return q, "", &apiProblem{"since: it is not before until: no record lies between them", "since", places["since"]}
	}
	slices.Sort(parts)
	key = strings.Join(parts, "\x00")
	if cursor != "" {
		var ok bool
		if q.After, ok = openAuditCursor(key, cursor); !ok {
			return q, "", &apiProblem{"cursor: it is not from this search: send what next said, with the same parameters, or none to begin again", "cursor", cursorAt}
		}
	}
	return q, key, nil
}

// unescape decodes a parameter, whose value begins at a position.
func unescape(name, value string, begins int) (string, string, *apiProblem) {
	for i, text := range []*string{&name, &value} {
		plain, err := url.QueryUnescape(*text)
		if err == nil {
			*text = plain
			continue
		}
		at := begins
		if i == 0 {
			at = begins - len(name) - 1
		}
		if e, ok := errors.AsType[url.EscapeError](err); ok {
			at += strings.Index(*text, string(e))
		}
		return "", "", &apiProblem{Error: fmt.Sprintf("the query cannot be read at character %d: %s", at, err), Position: at}
	}
	return name, value, nil
}

func parameterNames() string {
	names := []string{"cursor"}
	for name := range auditParameters {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// auditCursor is the place behind a record in the answers to one search. It is no secret: whoever has it may read the
// trail; what it is bound to only keeps it from being used by mistake with other parameters.
func auditCursor(key string, last int64) string {
	sum := sha256.Sum256([]byte(key))
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(sum[:8:8], uint64(last)))
}

func openAuditCursor(key, cursor string) (last int64, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(b) != 16 {
		return 0, false
	}
	last = int64(binary.BigEndian.Uint64(b[8:]))
	return last, last > 0 && auditCursor(key, last) == cursor
}
