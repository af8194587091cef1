package console

import (
	"context"
	"flag"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"scimgate/gateway/store"
)

var largeTrail = flag.String("trail", "", "database of `scimgate audit bench --keep`, of which every page is measured")

// slowestPage bounds the making of one page.
const slowestPage = 500 * time.Millisecond

// No page of a long trail takes long: the first time after the console has started, and afterwards.
func TestPagesOfALargeTrail(t *testing.T) {
	if *largeTrail == "" {
		t.Skip("this needs a long trail: scimgate audit bench --keep, then go test ./gateway/console -run LargeTrail -v -trail FILE")
	}
	r, err := store.OpenReadOnly(t.Context(), *largeTrail)
	if err != nil {
		t.Fatal(err)
	}
	newest, err := r.Last(t.Context(), 1)
	if err != nil || len(newest) == 0 {
		t.Fatalf("got %d records, %v, want a trail", len(newest), err)
	}
	last := newest[0]
	c, err := New(Config{Trail: r, Token: func() (string, error) { return adminToken, nil }, Clock: func() time.Time { return last.Time.Add(time.Second) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	defer func() {
		cancel()
		<-ended
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	began := time.Now()
	poll(t, "the trail is read", func() bool { return c.picture.reading() == "" && len(c.picture.cycles(last.Time)) > 0 })
	t.Logf("%d records; figures of the newest %d after %s", last.Seq, min(last.Seq, backfill), time.Since(began).Round(time.Millisecond))
	id, _ := c.sessions.open(adminToken, adminToken)
	pages, slowestFirst := 0, time.Duration(0)
	user, middle := last.Subject.UserName, digits(last.Seq/2)
	for _, path := range []string{
		"", "?range=24h", "cycles", "users", "users?q=user.1", "users?q=" + user, "users?state=disabled", "users?q=zzz", "user?name=" + user, "user?name=" + user + "&reads=on", "user?name=nobody",
		"trail", "trail?user=" + user, "trail?user=" + user + "&action=deleted", "trail?action=failed", "trail?action=deleted", "trail?outcome=unknown", "trail?rule=long-user-name", "trail?rule=nosuch",
		"trail?status=418", "trail?credential=nosuch", "trail?request=nosuch", "trail?kind=event", "trail?id=" + last.ID, "trail?outcome=failed&rule=long-user-name&connection=" + last.Connection,
		"trail?since=7d&action=created", "trail?action=failed&before=" + middle, "trail/" + middle, "trail/" + middle + "/record.json",
	} {
		var took []time.Duration
		for range 5 {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+Base+path, nil)
			req.AddCookie(&http.Cookie{Name: cookieName, Value: id})
			answer := httptest.NewRecorder()
			began := time.Now()
			c.ServeHTTP(answer, req)
			took = append(took, time.Since(began))
			if answer.Code >= http.StatusInternalServerError || answer.Code == http.StatusSeeOther {
				t.Fatalf("%s: got %d", path, answer.Code)
			}
		}
		pages, slowestFirst = pages+1, max(slowestFirst, took[0])
		t.Logf("first %6.1f ms, slowest %6.1f ms  %s", took[0].Seconds()*1000, slices.Max(took).Seconds()*1000, path)
		if slowest := slices.Max(took); slowest > slowestPage {
			t.Errorf("%s: got %s, want %s at most", path, slowest, slowestPage)
		}
	}
	t.Logf("%d pages, the slowest %.1f ms the first time", pages, slowestFirst.Seconds()*1000)
}
