package gateway

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"scimgate/config/profile"
	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/transform/scim"
)

var (
	patchCases = flag.Int("patches", 500, "cases of TestPatchProperty")
	patchSeed  = flag.Uint64("patchseed", 1, "seed of TestPatchProperty")
	patchWorld = flag.Int("patchworld", -1, "the only world of TestPatchProperty to look at")
)

// patchesPerWorld is how many PATCHes one set of upstreams gets.
const patchesPerWorld = 20

// patchTally counts what TestPatchProperty did.
type patchTally struct {
	cases, done, refused, modelled, operations, calls atomic.Int64
}

// TestPatchProperty: a PATCH does the same through upstreams that take it as it is, one operation at a time, and as
// PUT only; and it does what the RFC and the profile say, in every dialect: to what the client is shown, to what the
// upstream stores, and in what the trail says was done.
func TestPatchProperty(t *testing.T) {
	g := newGround(t)
	var sum patchTally
	var failures atomic.Int64
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for n := range numbers {
				if err := patchWorlds(t.Context(), g, *patchSeed, n, &sum); err != nil {
					failures.Add(1)
					t.Errorf("-patchseed %d -patchworld %d: %v", *patchSeed, n, err)
				}
			}
		})
	}
	for n := range (*patchCases + patchesPerWorld - 1) / patchesPerWorld {
		if (*patchWorld < 0 || n == *patchWorld) && failures.Load() < 3 {
			numbers <- n
		}
	}
	close(numbers)
	workers.Wait()
	cases, modelled := sum.cases.Load(), sum.modelled.Load()
	share := 100 * float64(modelled) / float64(max(cases, 1))
	t.Logf("%d PATCHes of %d operations, each through %d update modes with %d upstream calls in all: %d done, %d refused alike; %d (%.1f %%) as the model says",
		cases, sum.operations.Load(), len(updateModes), sum.calls.Load(), sum.done.Load(), sum.refused.Load(), modelled, share)
	if 2*sum.done.Load() < cases || share < 90 {
		t.Errorf("got %d of %d PATCHes done and %.1f %% by the model, want half and 90 %%", sum.done.Load(), cases, share)
	}
}

// patchWorlds lets three worlds live that differ in the update mode only.
func patchWorlds(ctx context.Context, g ground, seed uint64, n int, sum *patchTally) error {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	p := patches{rand: r, sum: sum}
	profiles := r.Uint64()
	assume := simulator.Assumptions{
		Email: simulator.Shared, PatchNoContent: r.IntN(3) == 0, ManagerForm: oneOf(r, simulator.Text, simulator.Object),
		UnknownAttributes: oneOf(r, simulator.Ignore, simulator.Refuse), MissingElement: oneOf(r, simulator.Accept, simulator.Refuse),
	}
	keeps := r.IntN(2) == 0
	for _, mode := range updateModes {
		text := someProfile(rand.New(rand.NewPCG(profiles, 0)), mode)
		if keeps {
			text = strings.NewReplacer("drop", "keep", "refuse", "keep", "    form: value\n", "").Replace(text)
		}
		w, err := newWorld(g, fmt.Sprintf("patches %d/%d %s", seed, n, mode), text, rand.New(rand.NewPCG(profiles, 1)), assume)
		if err != nil {
			return fmt.Errorf("%w in\n%s", err, text)
		}
		defer w.close()
		p.worlds = append(p.worlds, w)
	}
	p.holding = holdingOf(p.worlds[0].profile)
	defer func() {
		for _, w := range p.worlds {
			sum.calls.Add(w.calls.Load())
		}
	}()
	id := ""
	for range patchesPerWorld {
		if id == "" || r.IntN(8) == 0 {
			var err error
			if id, err = p.newcomer(); err != nil {
				return fmt.Errorf("%w\nprofile:\n%s", err, p.worlds[0].text)
			}
		}
		sum.cases.Add(1)
		ok, err := p.one(ctx, g, id)
		if err != nil {
			return fmt.Errorf("%w\nprofile:\n%s", err, p.worlds[0].text)
		}
		if !ok {
			id = "" // one operation at a time may have done a part of it
		}
	}
	return nil
}

// holdingOf is what a profile says, for the model.
func holdingOf(p *profile.Profile) holding {
	r := p.Resource("User")
	h := holding{extended: len(r.Extensions) > 0, complete: r.Complete, unlisted: string(r.Unlisted)}
	for _, a := range r.Attributes {
		h.rules = append(h.rules, ruleFor(a.Path, string(a.Handling), a.Form == profile.FormValue))
	}
	return h
}

// patches are three worlds that get the same PATCHes.
type patches struct {
	rand    *rand.Rand
	worlds  []*world
	holding holding
	sum     *patchTally
}

// newcomer makes the same user in all worlds, and returns its id.
func (p *patches) newcomer() (id string, err error) {
	person := p.worlds[0].person(fmt.Sprintf("user%d", p.rand.Uint32()))
	schemas := person["schemas"]
	person = p.holding.only(person, stored, kept, dropped)
	person["schemas"] = schemas
	for _, w := range p.worlds {
		status, answer := w.do("POST", "/Users", person)
		if status != http.StatusCreated {
			return "", fmt.Errorf("create: got %d %v, want 201: %s", status, answer, asJSON(person))
		}
		id, _ = answer["id"].(string)
		if got, want := comparableText(answer), comparableText(p.holding.only(person, stored, kept)); got != want {
			return "", fmt.Errorf("create: got\n%s, want\n%s", got, want)
		}
	}
	return id, nil
}

// one sends one PATCH to all worlds and compares what came of it. ok is false when it was refused.
func (p *patches) one(ctx context.Context, g ground, id string) (ok bool, err error) {
	_, before := p.worlds[0].do("GET", "/Users/"+id, nil)
	names := []string{fmt.Sprintf("name%d", p.rand.Uint32()), fmt.Sprintf("a.name.that.is.rather.long.%d@contoso.example", p.rand.Uint32())}
	edits := (&chooser{Rand: p.rand}).edits(before, p.holding, names)
	operations, edits := spellPatch(p.rand, edits)
	p.sum.operations.Add(int64(len(operations)))
	told := func(format string, args ...any) error {
		return fmt.Errorf("%s\nPATCH %s\nof %s", fmt.Sprintf(format, args...), asJSON(operations), asJSON(before))
	}
	var first outcome
	for i, w := range p.worlds {
		mode := updateModes[i]
		got, err := w.patch(ctx, g, id, operations)
		switch {
		case err != nil:
			return false, told("%s: %v", mode, err)
		case i == 0:
			first = got
		case got.refusal != first.refusal:
			return false, told("%s: got %d %v, want as with %s %d %v", mode, got.status, got.answer, updateModes[0], first.status, first.answer)
		}
		switch same := got.shown == comparableText(before); {
		case got.status >= 500:
			return false, told("%s: got %d %v", mode, got.status, got.answer)
		case got.status >= 400 && mode == profile.UpdateSingle: // a part of it may have been done
		case got.status >= 400 && !same:
			return false, told("%s: refused with %v, but got\n%s, want it unchanged", mode, got.answer["detail"], got.shown)
		case got.status == http.StatusOK && comparableText(got.answer) != got.shown:
			return false, told("%s: answered\n%s, then showed\n%s", mode, comparableText(got.answer), got.shown)
		case got.shown != first.shown:
			return false, told("%s: got\n%s, want as with %s\n%s", mode, got.shown, updateModes[0], first.shown)
		case got.stored != first.stored:
			return false, told("%s: got upstream\n%s, want as with %s\n%s", mode, got.stored, updateModes[0], first.stored)
		}
	}
	if first.status >= 400 {
		p.sum.refused.Add(1)
	} else {
		p.sum.done.Add(1)
	}
	if err := p.check(first, before, edits); err != nil {
		return false, told("%v", err)
	}
	return first.status < 400, nil
}

// check holds what came of a PATCH against the model.
func (p *patches) check(got outcome, before map[string]any, edits []edit) error {
	want := p.holding.judge(before, edits)
	if want.vague {
		return nil
	}
	p.sum.modelled.Add(1)
	switch {
	case got.refusal != want.scimType:
		return fmt.Errorf("got %d %v, want by the model %q", got.status, got.answer, want.scimType)
	case want.after == nil:
		return nil
	case got.shown != comparableText(want.after):
		return fmt.Errorf("got\n%s, want by the model\n%s", got.shown, comparableText(want.after))
	}
	upstream := p.holding.only(want.after, stored)
	if name, _ := upstream["userName"].(string); strings.Contains(p.worlds[0].text, "onViolation: alias") && len(name) > 16 {
		return nil // a stand-in
	}
	if got.stored != comparableText(upstream) {
		return fmt.Errorf("got upstream\n%s, want by the model\n%s", got.stored, comparableText(upstream))
	}
	return nil
}

// outcome is what came of a PATCH in one world.
type outcome struct {
	status  int
	answer  map[string]any
	refusal string // its scimType
	shown   string // the user as the gateway shows it then
	stored  string // the user as the upstream has it then
}

// patch sends a PATCH through the gateway, and looks at what came of it and at what the trail says about it.
func (w *world) patch(ctx context.Context, g ground, id string, operations []any) (outcome, error) {
	calls := w.calls.Load()
	status, answer := w.do("PATCH", "/Users/"+id, map[string]any{"schemas": []any{scim.MessagePatchOp}, "Operations": operations})
	calls = w.calls.Load() - calls
	out := outcome{status: status, answer: answer}
	if status >= 400 {
		out.refusal, _ = answer["scimType"].(string)
		out.refusal = cmp.Or(out.refusal, fmt.Sprint(status))
	}
	var has scim.Resource
	for _, r := range w.sim.Resources("User") {
		if r.ID() == id {
			has = r
		}
	}
	manager := scim.Ref{Schema: enterpriseURN, Name: "manager"}
	if text, ok := has.Get(manager).(string); ok { // how the simulator writes it is not the point here
		has = has.Clone()
		has.Set(manager, map[string]any{"value": text})
	}
	out.stored = comparableText(has)
	request := w.request
	_, shown := w.do("GET", "/Users/"+id, nil)
	out.shown = comparableText(shown)
	return out, w.trailSays(ctx, g, request, status, calls, has)
}

// trailSays holds the trail against what happened: one record of the answer with every call that was made, an intent
// before it when one of them may have changed something, and as confirmed what the upstream has.
func (w *world) trailSays(ctx context.Context, g ground, request string, status int, calls int64, has scim.Resource) error {
	var last *audit.Record
	intents := 0
	for r, err := range g.store.Search(ctx, audit.Query{RequestID: request}) {
		switch {
		case err != nil:
			return err
		case last != nil && last.Kind != audit.Intent:
			return fmt.Errorf("trail: got a %s after the outcome", r.Kind)
		case r.Kind == audit.Intent:
			intents++
		}
		last = r
	}
	changing := func(c audit.Call) bool { return c.Method != http.MethodGet }
	switch {
	case last == nil || last.Kind != audit.Outcome || last.Answer.Status != status || int64(len(last.Calls)) != calls:
		return fmt.Errorf("trail: got %+v, want the outcome with answer %d and %d calls", last, status, calls)
	case slices.ContainsFunc(last.Calls, changing) != (intents == 1):
		return fmt.Errorf("trail: got %d intents and calls %+v", intents, last.Calls)
	}
	for _, a := range last.Attributes {
		at := ruleFor(a.Path, "", false)
		kind, ok := at.at.attribute()
		if !ok || kind.several || kind.kind == complexKind && at.at.sub == "" || a.Confirmed == nil || a.Confirmed.State == audit.StateNotReported ||
			kind.name == "userName" && strings.Contains(w.text, "onViolation: alias") {
			continue
		}
		v := find(map[string]any(has), at.at)
		if m, ok := v.(map[string]any); ok {
			v = m[at.at.sub]
		}
		if got, want := a.Confirmed.String(), w.gateway.Redactor.Value(a.Path, v).String(); got != want {
			return fmt.Errorf("trail: got %s confirmed as %s, want %s", a.Path, got, want)
		}
	}
	return nil
}
