package gateway

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"scimgate/config/profile"
	"scimgate/conformance/simulator"
	"scimgate/transform"
	"scimgate/transform/scim"
)

var (
	filterCases = flag.Int("filters", 3000, "cases of TestFiltersProperty")
	filterSeed  = flag.Uint64("filterseed", 1, "seed of TestFiltersProperty")
	filterWorld = flag.Int("filterworld", -1, "the only world of TestFiltersProperty to look at")
)

// casesPerWorld is how many filters one upstream is asked for.
const casesPerWorld = 40

// tally counts what TestFiltersProperty did.
type tally struct {
	cases, invalid, found       atomic.Int64
	requests, calls             atomic.Int64
	behinds, changes            atomic.Int64
	pushed, narrowed, candidate atomic.Int64
	scanned                     atomic.Int64
}

// TestFiltersProperty: the answer to a filter is what evaluating it, by other means, over all users as the gateway
// shows them gives; whatever the upstream stores and can evaluate, however it pages, and whoever changed users
// meanwhile. A failure names the world; -filterseed and -filterworld bring it back.
func TestFiltersProperty(t *testing.T) {
	g := newGround(t)
	var sum tally
	var failures atomic.Int64
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for n := range numbers {
				if err := explore(g, *filterSeed, n, &sum); err != nil {
					failures.Add(1)
					t.Errorf("-filterseed %d -filterworld %d: %v", *filterSeed, n, err)
				}
			}
		})
	}
	for n := range (*filterCases + casesPerWorld - 1) / casesPerWorld {
		if (*filterWorld < 0 || n == *filterWorld) && failures.Load() < 3 {
			numbers <- n
		}
	}
	close(numbers)
	workers.Wait()
	sum.report(t)
}

func (s *tally) report(t *testing.T) {
	cases := s.cases.Load()
	share := func(n *atomic.Int64) float64 { return 100 * float64(n.Load()) / float64(max(cases, 1)) }
	t.Logf("%d cases: %.1f %% with a non-empty answer, %.1f %% refused as invalid; users were changed %d times behind the gateway's back, %d times through it",
		cases, share(&s.found), share(&s.invalid), s.behinds.Load(), s.changes.Load())
	t.Logf("carried out: %.1f %% by the upstream, %.1f %% by the upstream and here, %.1f %% by id, %.1f %% here over all users",
		share(&s.pushed), share(&s.narrowed), share(&s.candidate), share(&s.scanned))
	t.Logf("%d requests, %d upstream calls", s.requests.Load(), s.calls.Load())
	if share(&s.found) < 30 {
		t.Errorf("got %.1f %% of the cases with a non-empty answer, want 30 %% at least", share(&s.found))
	}
}

// explore lets one world live.
func explore(g ground, seed uint64, n int, sum *tally) error {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	text := someProfile(r, oneOf(r, profile.UpdatePatch, profile.UpdateSingle, profile.UpdatePut))
	yes := func(n int) bool { return r.IntN(n) == 0 }
	assume := simulator.Assumptions{
		Email: simulator.Shared, NoMeta: yes(10), WholeSeconds: yes(5), LowerCaseUserName: yes(10), PatchNoContent: yes(3),
		IDs: oneOf(r, simulator.Decimal, simulator.UUID), Delete: oneOf(r, simulator.Removes, simulator.Removes, simulator.Disables),
		ManagerForm: oneOf(r, simulator.Text, simulator.Object), UnknownAttributes: oneOf(r, simulator.Ignore, simulator.Refuse),
	}
	if yes(5) {
		assume.Disable = simulator.Removes
	}
	if assume.NoMeta {
		assume.ETag = simulator.Off // or a GET would show a version that a list does not
	}
	w, err := newWorld(g, fmt.Sprintf("filters %d/%d", seed, n), text, r, assume)
	if err != nil {
		return fmt.Errorf("%w in\n%s", err, text)
	}
	defer w.close()
	w.untidy = yes(5)
	defer func() {
		sum.requests.Add(int64(w.asked))
		sum.calls.Add(w.calls.Load())
		sum.behinds.Add(int64(w.behinds))
		sum.changes.Add(int64(w.changes))
	}()
	if err := w.live(sum); err != nil {
		return fmt.Errorf("%w\nprofile:\n%s", err, text)
	}
	return nil
}

// live populates the world, and asks and changes in turn.
func (w *world) live(sum *tally) error {
	people := 4 + w.rand.IntN(8)
	switch {
	case w.profile.Paging.PageSize == 100 && w.rand.IntN(10) == 0:
		people = 120
	case w.profile.Paging.PageSize > 1 && w.rand.IntN(8) == 0:
		people = 30
	}
	for range people {
		if err := oneOf(w.rand, w.behind, w.change)(); err != nil {
			return err
		}
	}
	if err := w.look(); err != nil {
		return err
	}
	for range casesPerWorld {
		if w.rand.IntN(5) == 0 {
			for range 1 + w.rand.IntN(3) {
				if err := oneOf(w.rand, w.behind, w.change)(); err != nil {
					return err
				}
			}
			if err := w.look(); err != nil {
				return err
			}
		}
		if err := w.oneCase(sum); err != nil {
			return err
		}
	}
	return nil
}

// enquiry is one case: a filter and how its answer is asked for.
type enquiry struct {
	text       string    // of the filter
	filter     condition // nil: it cannot be read
	count      int       // -1: none
	sortBy     string
	descending bool
	attributes string
}

func (w *world) oneCase(sum *tally) error {
	g := &chooser{w.rand, w.shown, w.former}
	e := enquiry{count: -1}
	switch {
	case len(w.recent) > 0 && g.oneIn(6): // again, now that users were changed, or in another order
		e.filter = oneOf(w.rand, w.recent...)
	case g.oneIn(12):
		e.filter = g.lacking(g.someone())
	case g.oneIn(30): // the same thing twice
		c := &comparison{place: oneOf(w.rand, place{name: "externalId"}, place{name: "externalId"}, place{name: "userName"}, place{name: "id"}), op: "eq"}
		g.value(c, g.someone(), nil)
		e.filter = &junction{false, c, c}
	default:
		e.filter = g.filter(g.someone(), 3)
		w.recent = append(w.recent[max(0, len(w.recent)-5):], e.filter)
	}
	e.text = spell(e.filter, w.rand)
	for len(e.text) > scim.MaxFilter {
		e.filter = g.filter(g.someone(), 2)
		e.text = spell(e.filter, nil)
	}
	if g.oneIn(60) {
		e.text, e.filter = g.broken(e.text), nil
	}
	if g.oneIn(2) {
		e.count = oneOf(w.rand, 0, 1, 2, 3, 5, 50, 2000)
	}
	if g.oneIn(6) {
		e.sortBy = oneOf(w.rand, "userName", "title", "active", "name.familyName", "emails", "externalId", "meta.created", "id", "department")
		e.descending = g.oneIn(2)
	}
	if g.oneIn(6) {
		e.attributes = oneOf(w.rand, "&attributes=userName", "&excludedAttributes=emails,name", "&attributes=title,emails.value")
	}
	want := w.matches(e.filter)
	sum.cases.Add(1)
	switch {
	case e.filter == nil || !e.filter.valid(nil):
		sum.invalid.Add(1)
	default:
		if len(want) > 0 {
			sum.found.Add(1)
		}
		if err := w.count(sum, &e); err != nil {
			return fmt.Errorf("%s: %w", e.text, err)
		}
	}
	problem := w.ask(&e, want)
	if problem == nil {
		return nil
	}
	shown := ""
	for _, r := range w.shown {
		shown += "\n" + asJSON(r)
	}
	return fmt.Errorf("%s\n%+v\nsmallest: %s\nusers:%s", problem, e, w.shrink(e), shown)
}

// matches are the ids of the users that a filter is true of, in the order in which the gateway lists them.
func (w *world) matches(c condition) []string {
	ids := []string{}
	if c == nil || !c.valid(nil) {
		return ids
	}
	for _, r := range w.shown {
		if c.holds(r, nil) {
			ids = append(ids, r["id"].(string))
		}
	}
	return ids
}

// count notes how the gateway goes about it.
func (w *world) count(sum *tally, e *enquiry) error {
	r := httptest.NewRequest("GET", "http://gateway.example/scim/v2/Users?"+e.query(1), nil)
	req, err := scim.ReadRequest(r, "/Users", w.gateway.Types(), scim.MaxBody)
	if err == nil {
		req, _, err = transform.Normalize(req)
	}
	if err != nil {
		return err
	}
	known, err := w.gateway.known(r.Context(), req)
	if err != nil {
		return err
	}
	plan, err := w.gateway.transform.For(req, transform.Ruling{}, nil, known)
	switch {
	case err != nil:
		return err
	case plan.How == transform.Candidate:
		sum.candidate.Add(1)
	case plan.Pushed == nil:
		sum.scanned.Add(1)
	case plan.Residual != nil:
		sum.narrowed.Add(1)
	default:
		sum.pushed.Add(1)
	}
	return nil
}

func (e *enquiry) query(start int) string {
	q := "filter=" + url.QueryEscape(e.text) + e.attributes
	if e.count >= 0 {
		q += fmt.Sprintf("&count=%d", e.count)
	}
	if start != 1 {
		q += fmt.Sprintf("&startIndex=%d", start)
	}
	if e.sortBy != "" {
		q += "&sortBy=" + e.sortBy
		if e.descending {
			q += "&sortOrder=descending"
		}
	}
	return q
}

// ask asks the gateway for all pages of an answer and says what is wrong with them.
func (w *world) ask(e *enquiry, want []string) error {
	var all []string
	for start := 1; ; {
		ids, total, err := w.page(e, start)
		switch {
		case err != nil:
			return err
		case e.filter == nil || !e.filter.valid(nil):
			return nil
		case total != len(want):
			return fmt.Errorf("got totalResults %d at %d, want %d: %v", total, start, len(want), want)
		}
		all = append(all, ids...)
		if start += len(ids); start > total || e.count == 0 {
			break
		}
		if len(ids) == 0 {
			return fmt.Errorf("got an empty page at %d of %d", start, total)
		}
	}
	if e.count == 0 {
		want = nil
	}
	sorted := func(list []string) []string { return slices.Sorted(slices.Values(list)) }
	if !slices.Equal(sorted(all), sorted(want)) {
		return fmt.Errorf("got %v, want %v", all, want)
	}
	if err := w.inOrder(e, all); err != nil || e.count == 0 {
		return err
	}
	if w.rand.IntN(4) == 0 { // the pages of one query are not those of another
		other := *e
		other.sortBy, other.descending, other.count = "id", !e.descending, 1
		if _, _, err := w.page(&other, 1); err != nil {
			return err
		}
	}
	start := 1 + w.rand.IntN(len(all)+3) // any page once more, on its own
	ids, _, err := w.page(e, start)
	if rest := all[min(start-1, len(all)):]; err == nil && (len(ids) > len(rest) || !slices.Equal(ids, rest[:len(ids)]) || len(ids) == 0 && len(rest) > 0) {
		err = fmt.Errorf("got %v at %d, want the beginning of %v", ids, start, rest)
	}
	return err
}

// page asks for one page, and checks what can be said of it alone.
func (w *world) page(e *enquiry, start int) (ids []string, total int, err error) {
	status, answer := w.do("GET", "/Users?"+e.query(start), nil)
	if e.filter == nil || !e.filter.valid(nil) {
		if status != 400 || answer["scimType"] != scim.InvalidFilter {
			err = fmt.Errorf("got %d %v, want 400 %s", status, answer, scim.InvalidFilter)
		}
		return nil, 0, err
	}
	if status != 200 {
		return nil, 0, fmt.Errorf("got %d %v, want 200", status, answer)
	}
	number := func(name string) int { n, _ := answer[name].(float64); return int(n) }
	list, _ := answer["Resources"].([]any)
	switch total = number("totalResults"); {
	case e.count >= 0 && len(list) > e.count:
		err = fmt.Errorf("got %d resources, want %d at most", len(list), e.count)
	case number("itemsPerPage") != len(list) || number("startIndex") != start:
		err = fmt.Errorf("got itemsPerPage %d and startIndex %d, want %d and %d", number("itemsPerPage"), number("startIndex"), len(list), start)
	}
	for _, v := range list {
		r, _ := v.(map[string]any)
		id, _ := r["id"].(string)
		ids = append(ids, id)
		if shown := w.user(id); e.attributes == "" && err == nil && asJSON(r) != asJSON(shown) {
			err = fmt.Errorf("got %s, want as listed without a filter %s", asJSON(r), asJSON(shown))
		}
	}
	return ids, total, err
}

func (w *world) user(id string) map[string]any {
	for _, r := range w.shown {
		if r["id"] == id {
			return r
		}
	}
	return nil
}

// inOrder checks the order of an answer that was to be sorted (RFC 7644, Section 3.4.2.3).
func (w *world) inOrder(e *enquiry, ids []string) error {
	if e.sortBy == "" || w.untidy { // there is no order of values of different types
		return nil
	}
	p := place{name: e.sortBy}
	if p.name == "department" {
		p.urn = enterpriseURN
	}
	p.name, p.sub, _ = strings.Cut(p.name, ".")
	if p.name == "emails" {
		p.sub = "value"
	}
	key := func(id string) any {
		v := find(w.user(id), p)
		for i, e := range parts(v, "") {
			if m, ok := e.(map[string]any); ok && (i == 0 || m["primary"] == true) {
				v = m[p.sub]
				if m["primary"] == true {
					break
				}
			}
		}
		if s, ok := v.(string); ok && p.name != "externalId" && p.name != "id" {
			return lower(s)
		}
		return v
	}
	for i := 1; i < len(ids); i++ {
		a, b := key(ids[i-1]), key(ids[i])
		if e.descending {
			a, b = b, a
		}
		if a == nil && b != nil || a != nil && b != nil && cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) > 0 {
			return fmt.Errorf("got %v, which is not in order at %d: %v, %v", ids, i, key(ids[i-1]), key(ids[i]))
		}
	}
	return nil
}

// shrink looks for the smallest filter that still goes wrong.
func (w *world) shrink(e enquiry) string {
	if e.filter == nil {
		return e.text
	}
	smallest, problem := e, w.ask(&e, w.matches(e.filter))
	try := func(e enquiry) bool {
		err := w.ask(&e, w.matches(e.filter))
		if err != nil {
			smallest, problem = e, err
		}
		return err != nil
	}
	plain := smallest
	plain.text, plain.count, plain.sortBy, plain.attributes = spell(plain.filter, nil), -1, "", ""
	try(plain)
	for range 100 {
		if !slices.ContainsFunc(smallest.filter.simpler(), func(c condition) bool {
			simpler := smallest
			simpler.filter, simpler.text = c, spell(c, nil)
			return try(simpler)
		}) {
			break
		}
	}
	return fmt.Sprintf("%s: %v", smallest.text, problem)
}
