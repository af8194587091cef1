package console

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"scimgate/gateway/audit"
)

const (
	pageRecords = 50              // records on one page
	pageTime    = 5 * time.Second // how long a page may search
)

// frame is what every page has around its view.
type frame struct {
	Title    string
	Nav      string // which entry of the navigation is the current one
	SignedIn bool
	Version  string
	Refresh  int // seconds after which a browser without a script asks again; 0: never
	Now      time.Time
	View     any
}

// render makes a page, and sends it only when it is complete.
func (c *Console) render(w http.ResponseWriter, r *http.Request, status int, page, title, nav string, view any) {
	f := frame{Title: title, Nav: nav, SignedIn: nav != "" || c.signedIn(r), Version: c.cfg.Version, Now: c.cfg.Clock(), View: view}
	if v, ok := view.(interface{ refresh() int }); ok {
		f.Refresh = v.refresh()
	}
	var body bytes.Buffer
	if err := c.pages[page].ExecuteTemplate(&body, "layout.html", f); err != nil {
		c.cfg.Logger.Error("a page of the console cannot be made", "page", page, "error", err)
		http.Error(w, "This page cannot be made. The gateway's log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client is gone when this fails
}

// fragment makes a part of a page for a live stream.
func (c *Console) fragment(page, part string, view any) ([]byte, error) {
	var body bytes.Buffer
	err := c.pages[page].ExecuteTemplate(&body, part, view)
	return body.Bytes(), err
}

// problemView is a page that says what went wrong and what to do.
type problemView struct{ What, Remedy string }

func (c *Console) problem(w http.ResponseWriter, r *http.Request, status int, what, remedy string) {
	c.render(w, r, status, "problem", what, "none", problemView{what, remedy})
}

// unreadable answers a request for which the trail could not be read.
func (c *Console) unreadable(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody is waiting any more
	}
	what, remedy := c.searchProblem(err)
	c.problem(w, r, http.StatusServiceUnavailable, what, remedy)
}

// searchProblem says what a failed search means.
func (c *Console) searchProblem(err error) (what, remedy string) {
	if errors.Is(err, context.DeadlineExceeded) {
		return "The search took too long",
			"It was ended after " + span(pageTime) + ". Narrow it: by a user, a request id, or a shorter time."
	}
	c.cfg.Logger.Error("the console cannot read the trail", "error", err)
	return "The trail cannot be read", "The gateway's log says why. Requests are not affected by this page; /readyz says whether they can be recorded."
}

// search reads at most q.Limit records, and one more to know whether there are others.
func (c *Console) search(r *http.Request, q audit.Query) (list []*audit.Record, more bool, err error) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTime)
	defer cancel()
	limit := q.Limit
	q.Limit++
	for rec, err := range c.cfg.Trail.Search(ctx, q) {
		if err != nil {
			return nil, false, errors.Join(err, ctx.Err())
		}
		list = append(list, rec)
	}
	if len(list) > limit {
		return list[:limit], true, nil
	}
	return list, false, nil
}

// option is one choice of a list.
type option struct {
	Value, Text string
	Selected    bool
}

func options(selected, none string, values []string, text func(string) string) []option {
	list := []option{{"", none, selected == ""}}
	known := selected == ""
	for _, v := range values {
		list = append(list, option{v, text(v), v == selected})
		known = known || v == selected
	}
	if !known {
		list = append(list, option{selected, plain(selected), true})
	}
	return list
}

// row is a record in a list, with the address of its page.
type row struct {
	*audit.Record
	Link string
}

// Person is the address of the timeline of whom the record is about, "" for nobody.
func (r row) Person() string {
	if who(r.Record) == "" {
		return ""
	}
	return personLink(who(r.Record), r.Connection)
}

// link is the address of a record's page.
func link(seq int64) string { return Base + "trail/" + digits(seq) }
