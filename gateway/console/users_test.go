package console

import (
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"scimgate/gateway/audit"
)

// One person is found by each of their names, also by the one they had before, and the timeline is the same.
func TestTimeline(t *testing.T) {
	w := newWorld(t, nil)
	w.history(40)
	w.signIn(adminToken)
	for _, name := range []string{"babs@example.com", "BABS.Jensen@example.com", "2819c223-7f76-453a-919d-413861904646", externalID("2819c223-7f76-453a-919d-413861904646", "")} {
		w.has(Base+"user?"+url.Values{"name": {name}}.Encode(), "babs.jensen@example.com", "active",
			"Created by entra-2027 · answered 201 Created", "Updated", "Renamed", "Disabled", "Restored", "Refused by the gateway",
			"Could not change", "the upstream does not answer", "stored as asked; before it was babs@example.com", "stored as asked; before it was false",
			"sent, not stored: the upstream refused or failed", "kept by the gateway, not sent: the upstream lacks it: held by the gateway",
			"not sent: the upstream lacks it", "refused: userName has 43 characters; the upstream takes at most 30")
		w.lacks(Base+"user?"+url.Values{"name": {name}}.Encode(), "About to", "ann.")
		w.has(Base+"users?"+url.Values{"q": {name}}.Encode(), "Known by just this name", "babs.jensen@example.com")
	}
	w.has(Base+"users?q=jens", "Names that contain it", "babs.jensen@example.com")
	w.has(Base+"users?q=nobody%40nowhere", "Nobody was found.")
	if status, body, _ := w.get(Base + "user?name=nobody"); status != http.StatusNotFound || !strings.Contains(body, "Nobody is known as") {
		t.Errorf("nobody: got %d", status)
	}
}

// A userName passes to somebody else: neither timeline shows the other's.
func TestNameOfTwoPeople(t *testing.T) {
	w := newWorld(t, nil)
	const name = "lee@example.com"
	at := w.now.Add(-time.Hour)
	w.change(at, audit.Created, "create", "1", name, 201, born(name, 1)...)
	w.change(at.Add(time.Minute), audit.Disabled, "patch", "1", name, 200, audit.Attribute{Path: "active", Asked: clearValue(false), Sent: clearValue(false)})
	w.change(at.Add(2*time.Minute), audit.Deleted, "delete", "1", name, 204)
	last := w.change(at.Add(3*time.Minute), audit.Created, "create", "2", name, 201, born(name, 2)...)
	w.told(last.Seq)
	w.signIn(adminToken)
	w.has(Base+"user?name=lee%40example.com", "This name stands for more than one person.", "id 1", "active")
	w.lacks(Base+"user?name=lee%40example.com", "Disabled", "Deleted")
	w.has(Base+"user?name=1", "deleted", "Disabled", "Deleted")
	w.has(Base+"users?state=deleted", "deleted")
}

// Two upstreams have given the same id, and there is the same userName at both.
func TestNameOnTwoConnections(t *testing.T) {
	w := newWorld(t, nil)
	for _, connection := range []string{"first", "second"} {
		for i, action := range []string{audit.Created, map[string]string{"first": audit.Disabled, "second": audit.Renamed}[connection]} {
			rec := look(w.now.Add(time.Duration(i)*time.Second), []string{"create", "patch"}[i], action, "7", "lee@example.com")
			rec.Connection = connection
			w.append(rec)
		}
	}
	w.signIn(adminToken)
	_, body, _ := w.get(Base + "users?q=lee%40example.com")
	for _, connection := range []string{"first", "second"} {
		if link := "user?connection=" + connection + "&amp;name=7"; strings.Count(body, link) != 1 {
			t.Errorf("the list of users leads to %s %d times, want once", link, strings.Count(body, link))
		}
	}
	w.has(Base+"user?name=7&connection=first", "Created", "Disabled")
	w.lacks(Base+"user?name=7&connection=first", "Renamed", "more than one person")
	w.has(Base+"user?name=lee%40example.com", "Created", "Renamed", "more than one person", "id 7 of first")
	w.lacks(Base+"user?name=lee%40example.com", "Disabled")
}

// entries reads all pages of a timeline and returns the places of the records that they list.
func (w *world) entries(address string) (seqs []string, pages int) {
	w.t.Helper()
	older, record := regexp.MustCompile(`href="([^"]+)" rel="next"`), regexp.MustCompile(`record ([\d\x{202f}]+)</a>`)
	for ; address != ""; pages++ {
		_, body, _ := w.get(html.UnescapeString(address))
		for _, m := range record.FindAllStringSubmatch(body, -1) {
			seqs = append(seqs, m[1])
		}
		if strings.Contains(body, "under way") {
			w.t.Errorf("page %d shows a closed intent as under way", pages)
		}
		address = ""
		if m := older.FindStringSubmatch(body); m != nil && pages < 20 {
			address = m[1]
		}
	}
	return seqs, pages
}

// All pages of a timeline have each of a person's records once: behind a name that was somebody else's for long, and
// behind more look-ups than one page passes over.
func TestTimelineByPages(t *testing.T) {
	const name = "ann@example.com"
	update := func(w *world, at int, id string) {
		w.change(w.now.Add(time.Duration(at-3000)*time.Second), audit.Updated, "patch", id, name, 200, audit.Attribute{Path: "title", Asked: print(at), Sent: print(at)})
	}
	for _, c := range []struct {
		what          string
		fill          func(w *world)
		entries, most int
	}{
		{"changes", func(w *world) {
			for i := range 60 {
				update(w, i, "7")
			}
		}, 60, 3},
		{"a name that was somebody else's", func(w *world) {
			for i := range 60 {
				update(w, i, "7")
			}
			for i := range 60 {
				update(w, 100+i, "8")
			}
			for i := range 20 {
				update(w, 200+i, "7")
			}
		}, 80, 6},
		{"look-ups", func(w *world) {
			update(w, 0, "7")
			list := make([]*audit.Record, mostPassed+mostPassed/2)
			for i := range list {
				list[i] = look(w.now.Add(time.Duration(i-2900)*time.Second), "get", audit.Read, "7", name)
			}
			w.append(list...)
			update(w, 2000, "7")
		}, 2, 3},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := newWorld(t, nil)
			c.fill(w)
			w.signIn(adminToken)
			got, pages := w.entries(Base + "user?name=7")
			if len(got) != c.entries || pages > c.most {
				t.Errorf("got %d entries on %d pages, want %d on %d at most", len(got), pages, c.entries, c.most)
			}
			slices.Sort(got)
			if once := slices.Compact(slices.Clone(got)); len(once) != len(got) {
				t.Errorf("%d entries stand on two pages", len(got)-len(once))
			}
		})
	}
}

func TestIntentUnderWay(t *testing.T) {
	w := newWorld(t, nil)
	intent, _ := write(w.now, audit.Disabled, "patch", "7", "ann@example.com", 200, audit.Attribute{Path: "active", Asked: clearValue(false), Sent: clearValue(false)})
	if _, err := w.store.Intend(t.Context(), intent, openIntent(intent)); err != nil {
		t.Fatal(err)
	}
	w.told(intent.Seq)
	w.signIn(adminToken)
	w.has(Base+"user?name=7", "About to disable under way", "about to be sent")
}

// What became of an attribute, in words.
func TestBecame(t *testing.T) {
	yes, no, secret := clearValue(true), clearValue(false), &audit.Value{Secret: true}
	ok, refused := &audit.Record{Kind: audit.Outcome, Answer: audit.Answer{Status: 200}}, &audit.Record{Kind: audit.Outcome, Answer: audit.Answer{Status: 409}}
	cases := []struct {
		rec                    *audit.Record
		asked, sent, confirmed *audit.Value
		want                   string
	}{
		{ok, yes, yes, yes, "stored as asked"},
		{ok, yes, yes, no, "sent, but the upstream holds another value"},
		{ok, yes, no, no, "changed on the way, and stored as sent"},
		{ok, yes, yes, audit.NotReported(), "sent; the upstream did not say what it holds"},
		{ok, yes, yes, nil, "sent; the upstream did not say what it holds"},
		{ok, yes, nil, nil, "not sent"},
		{ok, yes, nil, yes, "the upstream held it already"},
		{ok, yes, nil, no, "not sent; the upstream holds a value of its own"},
		{ok, secret, secret, secret, "sent"},
		{ok, audit.Absent(), audit.Absent(), audit.Absent(), "removed as asked"},
		{ok, print(1), print(1), print(2), "sent, but the upstream holds another value"},
		{refused, yes, yes, nil, "sent, not stored: the upstream refused or failed"},
		{refused, yes, nil, nil, "not sent: the request was refused"},
		{&audit.Record{Kind: audit.Intent}, yes, yes, nil, "about to be sent"},
		{&audit.Record{Kind: audit.Unknown}, yes, yes, nil, "perhaps sent: not known whether it was stored"},
	}
	for _, c := range cases {
		if got, _ := became(c.rec, &audit.Attribute{Path: "active", Asked: c.asked, Sent: c.sent, Confirmed: c.confirmed}); got != c.want {
			text, _ := json.Marshal([]*audit.Value{c.asked, c.sent, c.confirmed})
			t.Errorf("%s %s: got %q, want %q", c.rec.Kind, text, got, c.want)
		}
	}
}
