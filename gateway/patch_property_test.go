package gateway

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"scimgate/conformance/simulator"
	"scimgate/transform/scim"
)

var (
	patchCases = flag.Int("patches", 600, "cases of TestPatchProperty")
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
// PUT only; and where the gateway keeps what the upstream lacks, it does what the RFC says, in every dialect.
func TestPatchProperty(t *testing.T) {
	g := newGround(t)
	var sum patchTally
	var failures atomic.Int64
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for n := range numbers {
				if err := patchWorlds(g, *patchSeed, n, &sum); err != nil {
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
	t.Logf("%d PATCHes of %d operations, each through %d update modes with %d upstream calls in all: %d done, of which %d as the model says; %d refused alike",
		sum.cases.Load(), sum.operations.Load(), len(updateModes), sum.calls.Load(), sum.done.Load(), sum.modelled.Load(), sum.refused.Load())
	if 2*sum.done.Load() < sum.cases.Load() || 4*sum.modelled.Load() < sum.cases.Load() {
		t.Errorf("got %d PATCHes done and %d by the model, want half and a quarter of %d", sum.done.Load(), sum.modelled.Load(), sum.cases.Load())
	}
}

// patchWorlds lets three worlds live that differ in the update mode only.
func patchWorlds(g ground, seed uint64, n int, sum *patchTally) error {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	var worlds []*world
	profiles := r.Uint64()
	assume := simulator.Assumptions{
		Email: simulator.Shared, PatchNoContent: r.IntN(3) == 0, ManagerForm: oneOf(r, simulator.Text, simulator.Object),
		UnknownAttributes: oneOf(r, simulator.Ignore, simulator.Refuse), MissingElement: oneOf(r, simulator.Accept, simulator.Refuse),
	}
	text, keeps := "", r.IntN(2) == 0
	for _, mode := range updateModes {
		text = someProfile(rand.New(rand.NewPCG(profiles, 0)), mode)
		if keeps {
			text = strings.NewReplacer("drop", "keep", "refuse", "keep", "    form: value\n", "").Replace(text)
		}
		w, err := newWorld(g, fmt.Sprintf("patches %d/%d %s", seed, n, mode), text, rand.New(rand.NewPCG(profiles, 1)), assume)
		if err != nil {
			return fmt.Errorf("%w in\n%s", err, text)
		}
		defer w.close()
		worlds = append(worlds, w)
	}
	defer func() {
		for _, w := range worlds {
			sum.calls.Add(w.calls.Load())
		}
	}()
	id := ""
	for range patchesPerWorld {
		if id == "" || r.IntN(8) == 0 {
			if id = newcomer(worlds, r); id == "" {
				continue // the profile refuses such users
			}
		}
		sum.cases.Add(1)
		ok, err := patchAll(worlds, r, id, sum)
		if err != nil {
			return fmt.Errorf("%w\nprofile:\n%s", err, text)
		}
		if !ok {
			id = "" // one operation at a time may have done a part of it
		}
	}
	return nil
}

// newcomer makes the same user in all worlds, and returns its id; "" when it is refused.
func newcomer(worlds []*world, r *rand.Rand) string {
	id := ""
	person := worlds[0].person(fmt.Sprintf("user%d", r.Uint32()))
	for _, w := range worlds {
		status, answer := w.do("POST", "/Users", person)
		if status != http.StatusCreated {
			return ""
		}
		id, _ = answer["id"].(string)
	}
	return id
}

// patchAll sends one PATCH to all worlds and compares what came of it. ok is false when it was refused.
func patchAll(worlds []*world, r *rand.Rand, id string, sum *patchTally) (ok bool, err error) {
	g := &chooser{Rand: r}
	_, before := worlds[0].do("GET", "/Users/"+id, nil)
	edits := g.edits(before, []string{fmt.Sprintf("name%d", r.Uint32()), fmt.Sprintf("a.name.that.is.rather.long.%d@contoso.example", r.Uint32())})
	operations, edits := oneOf[dialect](r, standard, legacy, flagged)(r, edits)
	sum.operations.Add(int64(len(operations)))
	body := map[string]any{"schemas": []any{scim.MessagePatchOp}, "Operations": operations}
	told := func(format string, args ...any) error {
		return fmt.Errorf("%s\nPATCH %s\nof %s", fmt.Sprintf(format, args...), asJSON(operations), asJSON(before))
	}
	var first map[string]any
	var status int
	var kind any
	for i, w := range worlds {
		mode := updateModes[i]
		code, answer := w.do("PATCH", "/Users/"+id, body)
		_, after := w.do("GET", "/Users/"+id, nil)
		switch {
		case i == 0:
			status, first = code, after
			if code >= 400 {
				kind = answer["scimType"]
			}
		case (code >= 300 || status >= 300) && (code != status || answer["scimType"] != kind):
			return false, told("%s: got %d %v, want as with %s %d %v", mode, code, answer, updateModes[0], status, kind)
		}
		switch {
		case code >= 500:
			return false, told("%s: got %d %v", mode, code, answer)
		case code >= 400 && i == 1: // a part of it may have been done
		case code >= 400:
			if got, want := comparableText(after), comparableText(before); got != want {
				return false, told("%s: refused with %v, but got\n%s, want it unchanged\n%s", mode, answer["detail"], got, want)
			}
		case code == http.StatusOK && comparableText(answer) != comparableText(after):
			return false, told("%s: answered\n%s, then showed\n%s", mode, asJSON(answer), asJSON(after))
		case comparableText(after) != comparableText(first):
			return false, told("%s: got\n%s, want as with %s\n%s", mode, comparableText(after), updateModes[0], comparableText(first))
		}
	}
	if status >= 400 {
		sum.refused.Add(1)
		return false, modelRefuses(worlds[0], edits, before, kind, told)
	}
	sum.done.Add(1)
	if !keepsEverything(worlds[0].text) {
		return true, nil
	}
	want := deepCopy(before).(map[string]any)
	for i, e := range edits {
		if e.parted(worlds[0].text) && (e.lacksElement(want) || e.verb == "remove" && e.at.sub != "") {
			return true, nil // the upstream may have the element, or keep nothing of what is left of it
		}
		if !e.apply(want) {
			return false, told("got %s, want operation %d refused: it has no target", comparableText(first), i)
		}
	}
	sum.modelled.Add(1)
	if got, want := comparableText(first), comparableText(want); got != want {
		return false, told("got\n%s, want by the model\n%s", got, want)
	}
	return true, nil
}

// keepsEverything reports whether a client sees everything that it sent.
func keepsEverything(text string) bool {
	lacks := strings.Contains(text, "complete") && !strings.Contains(text, "extensions") // refused, as by default
	return !lacks && !strings.Contains(text, "drop") && !strings.Contains(text, "refuse") && !strings.Contains(text, "form: value")
}

// parted reports whether the upstream stores some parts of an attribute's values, and the gateway others.
func (e edit) parted(profile string) bool {
	return strings.Contains(profile, "'"+e.at.name) && !strings.Contains(profile, "'"+e.at.name+"'")
}

// modelRefuses checks that a PATCH was refused for a reason: where everything is kept, there is no other than an
// operation without a target.
func modelRefuses(w *world, edits []edit, before map[string]any, kind any, told func(string, ...any) error) error {
	if !keepsEverything(w.text) || kind == scim.InvalidPath {
		return nil
	}
	r := deepCopy(before).(map[string]any)
	for _, e := range edits {
		// Of an element that is parted, the upstream may have nothing.
		if kind == scim.NoTarget && (e.parted(w.text) && e.typed != "" || !e.apply(r)) {
			return nil
		}
	}
	return told("got %v, want it done", kind)
}

func deepCopy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := maps.Clone(v)
		for name, e := range m {
			m[name] = deepCopy(e)
		}
		return m
	case []any:
		var list []any
		for _, e := range v {
			list = append(list, deepCopy(e))
		}
		return list
	default:
		return v
	}
}
