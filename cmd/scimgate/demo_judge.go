package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"scimgate/conformance/entra"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
	"scimgate/transform/scim"
)

// judge draws the balance over the whole story.
func (d *demo) judge(ctx context.Context) error {
	trail, err := d.trail(ctx)
	if err != nil {
		return err
	}
	d.printCosts(trail)
	closings := map[int64]int{}
	credentials := map[string]bool{}
	var dropped, kept bool
	for _, r := range trail {
		switch {
		case r.Kind == audit.Intent:
			closings[r.Seq] += 0
		case r.Kind == audit.Outcome || r.Kind == audit.Unknown:
			if r.Intent != 0 {
				closings[r.Intent]++
			}
			if r.Op != "" {
				credentials[r.Credential] = true
			}
		}
		for _, f := range r.Findings {
			dropped = dropped || f.Verdict == audit.Drop && f.Path == "displayName"
			kept = kept || f.Verdict == audit.Keep && f.Path == "externalId"
		}
	}
	limited, unpaired := 0, 0
	for _, e := range d.sim.Ledger() {
		if e.Limited {
			limited++
		}
	}
	for _, n := range closings {
		if n != 1 {
			unpaired++
		}
	}
	d.expect("successes that cost more than one upstream call", "1, the lost answer", d.oneCall(trail))
	d.expect("answers 429 from the upstream", 0, limited)
	d.expect("intents in the trail without exactly one closing record", 0, unpaired)
	d.expect("credentials named in the trail", "entra-legacy entra-rfc", strings.Join(slices.Sorted(maps.Keys(credentials)), " "))
	d.expect("dropped displayName and kept externalId in the trail", "true true", fmt.Sprint(dropped, kept))
	d.expect("user found by externalId, which the upstream lacks", "1 user, 1 upstream call", d.byExternalID())

	d.title("The end of the trail")
	var lines [][]cell
	for _, r := range trail[max(0, len(trail)-8):] {
		lines = append(lines, recordLine(r, false))
	}
	new(table).printAll(d.out, lines)
	return nil
}

// printCosts shows what the clients' operations cost the upstream.
func (d *demo) printCosts(trail []*audit.Record) {
	d.title("What the upstream was called for, by operation of the clients, from the trail")
	type sum struct{ requests, calls, one int }
	sums := map[string]*sum{}
	for _, r := range trail {
		if r.Kind != audit.Outcome || r.Op == "" {
			continue
		}
		if sums[r.Op] == nil {
			sums[r.Op] = &sum{}
		}
		sums[r.Op].requests++
		sums[r.Op].calls += len(r.Calls)
		if len(r.Calls) == 1 && r.Answer.Status < 300 {
			sums[r.Op].one++
		}
	}
	right := func(n int) cell { return cell{text: strconv.Itoa(n), right: true} }
	lines := [][]cell{{{text: "  operation"}, {text: "requests", right: true}, {text: "upstream calls", right: true}, {text: "successes with exactly one call"}}}
	for _, op := range slices.Sorted(maps.Keys(sums)) {
		lines = append(lines, []cell{{text: "  " + op}, right(sums[op].requests), right(sums[op].calls), {text: strconv.Itoa(sums[op].one)}})
	}
	new(table).printAll(d.out, lines)
}

// oneCall tells which successful answers cost more than one call.
func (d *demo) oneCall(trail []*audit.Record) string {
	more := 0
	recovered := 0
	for _, r := range trail {
		if r.Kind != audit.Outcome || r.Answer.Status >= 300 || len(r.Calls) <= 1 {
			continue
		}
		more++
		for _, f := range r.Findings {
			if f.Rule == "lost-answer" {
				recovered++
			}
		}
	}
	if more == 1 && recovered == 1 {
		return "1, the lost answer"
	}
	return fmt.Sprintf("%d, of these %d lost answers", more, recovered)
}

func (d *demo) trail(ctx context.Context) ([]*audit.Record, error) {
	var out []*audit.Record
	for r, err := range d.app.store.Search(ctx, audit.Query{}) {
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// refusal is how the trail tells of the refused create of a user.
func (d *demo) refusal(ctx context.Context, userName string) string {
	for r, err := range d.app.store.Search(ctx, audit.Query{User: userName, Action: audit.Refused}) {
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%d %s, %d upstream calls", r.Answer.Status, r.Answer.ScimType, len(r.Calls))
	}
	return "not in the trail"
}

// failure is how a job's report tells of the first of some people who failed.
func (d *demo) failure(r *entra.Report, people ...entra.Person) string {
	for _, e := range r.Entries {
		for _, s := range e.Steps {
			if s.Status == entra.Failure && slices.ContainsFunc(people, func(p entra.Person) bool { return p.ObjectID == e.ObjectID }) {
				return fmt.Sprintf("%d %s", s.HTTP, s.ScimType)
			}
		}
	}
	return "nobody failed"
}

// adopted tells what became of the create whose answer was lost.
func (d *demo) adopted(ctx context.Context) string {
	name := d.people[0][lostAnswer].UserName
	how := "not adopted"
	for r, err := range d.app.store.Search(ctx, audit.Query{User: name, Kind: audit.Outcome}) {
		if err != nil {
			return err.Error()
		}
		if r.Action == audit.Adopted && r.Answer.Status == http.StatusCreated {
			how = "adopted"
		}
	}
	return fmt.Sprintf("%s, %d user upstream", how, d.count(func(r scim.Resource) bool { return r.UserName() == name }))
}

func (d *demo) byExternalID() string {
	before := len(d.sim.Ledger())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	person := d.people[1][3]
	g := d.app.gateways[0]
	filter := &scim.AttributeExpression{AttributePath: scim.AttributePath{AttributeName: "externalId"}, Operator: scim.Eq, CompareValue: person.ObjectID}
	resp, err := g.Do(ctx, &scim.Request{Op: scim.OpQuery, Type: g.Types()[0], Query: scim.Query{Filter: filter, StartIndex: 1},
		Origin: scim.Origin{Connection: g.Name, Credential: "entra-rfc", Source: "127.0.0.1", Base: d.app.tenantURL(0), RequestID: "demo"}})
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d user, %d upstream call", resp.TotalResults, len(d.sim.Ledger())-before)
}

func (d *demo) id(p entra.Person) string {
	for _, c := range d.clients {
		if id, ok := c.Link(p.ObjectID); ok {
			return id
		}
	}
	return ""
}

// verified is what `scimgate audit verify` says about the trail that was left.
func (d *demo) verified() string {
	ctx := context.Background() // also after an interrupt
	r, err := store.OpenReadOnly(ctx, d.app.cfg.Database)
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	key, err := audit.ParsePublicKey(d.app.signer.PublicKey())
	if err != nil {
		return err.Error()
	}
	sum, err := (&audit.Verification{Key: key}).Trail(ctx, r)
	switch {
	case err != nil:
		return err.Error()
	case sum.Signed < sum.Records:
		return fmt.Sprintf("%d of %d records are not signed", sum.Records-sum.Signed, sum.Records)
	}
	return "holds, signed to its end"
}

// holds is what the upstream holds of a user.
func (d *demo) holds(id, attribute string) string {
	for _, r := range d.sim.Resources("User") {
		if r.ID() == id {
			return fmt.Sprint(r[attribute])
		}
	}
	return "gone"
}

func (d *demo) count(holds func(scim.Resource) bool) int {
	n := 0
	for _, r := range d.sim.Resources("User") {
		if holds(r) {
			n++
		}
	}
	return n
}

func manager(r scim.Resource) string {
	ref := scim.Ref{Schema: scim.SchemaEnterpriseUser, Name: "manager"}
	if s := text(r.Get(ref)); s != "" {
		return s
	}
	ref.Sub = "value"
	return text(r.Get(ref))
}

func text(v any) string { s, _ := v.(string); return s }

// expectations is the table at the end.
type expectations []expectation

type expectation struct{ what, expected, found string }

func (d *demo) expect(what string, expected, found any) {
	d.table = append(d.table, expectation{what, fmt.Sprint(expected), fmt.Sprint(found)})
}

// verdict shows the table; it is errTold unless every row holds.
func (e *expectations) verdict(out *screen) error {
	out.printf("\n%s\n", out.paint(bold, "Expected and found"))
	var err error
	width := 0
	for _, x := range *e {
		width = max(width, len(x.what))
	}
	for _, x := range *e {
		mark := out.paint(green, "ok  ")
		if x.expected != x.found {
			mark, err = out.paint(red, "FAIL"), errTold
		}
		out.printf("  %s  %-*s  %s", mark, width, x.what, x.found)
		if x.expected != x.found {
			out.printf("   (expected: %s)", x.expected)
		}
		out.printf("\n")
	}
	return err
}
