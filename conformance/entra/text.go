package entra

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
)

// shown bounds how many objects the text lists; the JSON form has them all.
const shown = 20

// WriteText prints the report for a person. What the service provider wrote is
// printed without control characters.
func (r *Report) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	t := r.Totals
	fmt.Fprintf(b, "%s, %s dialect: %s in %s\n", strings.ToUpper(r.Cycle[:1])+r.Cycle[1:], r.Dialect,
		plural(t.Objects, "object"), r.Duration.Round(time.Millisecond))
	fmt.Fprintf(b, "  created %d, updated %d, disabled %d, restored %d, deleted %d, skipped %d, failed %d (%.1f %%)",
		t.Created, t.Updated, t.Disabled, t.Restored, t.Deleted, t.Skipped, t.Failed, r.FailedPercent)
	if t.NotProcessed > 0 {
		fmt.Fprintf(b, ", not processed %d", t.NotProcessed)
	}
	if t.Discovered > 0 {
		fmt.Fprintf(b, ", discovered %d", t.Discovered)
	}
	fmt.Fprintf(b, "\n  %s, %.1f/s, p50 %s, p99 %s\n", plural(r.Requests, "request"), r.RequestsPerSecond, rounded(r.P50), rounded(r.P99))
	r.writeAnswers(b)
	r.writeQuarantine(b)
	r.writeEntries(b)
	for i, u := range r.Unstable {
		if i == 0 {
			fmt.Fprintln(b, "Attributes that come back other than sent, so that Entra would send them in every cycle:")
		}
		fmt.Fprintf(b, "  %s comes back %s: %s, for example %s\n", u.Attribute, u.How, plural(u.Count, "user"), printable(u.UserNames[0]))
	}
	for i, m := range r.Remarks {
		if i == 0 {
			fmt.Fprintln(b, "Remarks:")
		}
		fmt.Fprintf(b, "  %s (%d times)\n", printable(m.Text), m.Count)
	}
	if n := len(r.Escrowed); n > 0 {
		fmt.Fprintf(b, "Escrow: %s for the next cycle\n", plural(n, "object"))
	}
	return b.Flush()
}

func (r *Report) writeAnswers(b *bufio.Writer) {
	fmt.Fprint(b, "  answers:")
	for _, s := range slices.Sorted(maps.Keys(r.Statuses)) {
		name := fmt.Sprint(s)
		if s == 0 {
			name = "none"
		}
		fmt.Fprintf(b, " %s x %d", name, r.Statuses[s])
	}
	if len(r.RetryAfter) > 0 {
		fmt.Fprintf(b, "; Retry-After: %s", printable(strings.Join(r.RetryAfter, ", ")))
	}
	fmt.Fprintln(b)
}

func (r *Report) writeQuarantine(b *bufio.Writer) {
	q := r.Quarantine
	if q.Quarantined {
		fmt.Fprintf(b, "Quarantine: yes, by the rule %q: %s\n", q.Rule, printable(q.Reason))
		return
	}
	fmt.Fprintf(b, "Quarantine: no; %s of this cycle would count\n", plural(q.Counted, "failure"))
	if q.Outlook != "" {
		fmt.Fprintf(b, "  but %s\n", q.Outlook)
	}
}

// writeEntries lists every object of a small cycle, and of a large one those
// that failed.
func (r *Report) writeEntries(b *bufio.Writer) {
	list, title := r.Entries, "Provisioning log:"
	if len(list) > shown {
		list = slices.DeleteFunc(slices.Clone(list), func(e Entry) bool { return e.Status != Failure })
		title = "Provisioning log of the objects that failed:"
	}
	if len(list) > 0 {
		fmt.Fprintln(b, title)
	}
	for _, e := range list[:min(len(list), shown)] {
		fmt.Fprintf(b, "  %s %s", e.Kind, printable(e.UserName))
		if e.ID != "" {
			fmt.Fprintf(b, " (id %s)", printable(e.ID))
		}
		fmt.Fprintf(b, ": %s %s, %s\n", e.Action, e.Status, plural(e.Requests, "request"))
		for _, s := range e.Steps {
			s.write(b)
		}
	}
	if n := len(list) - shown; n > 0 {
		fmt.Fprintf(b, "  and %d more\n", n)
	}
}

func (s Step) write(b *bufio.Writer) {
	fmt.Fprintf(b, "    %-19s %-7s", s.Action, s.Status)
	if s.HTTP != 0 {
		fmt.Fprintf(b, " %d", s.HTTP)
	}
	if len(s.Attributes) > 0 {
		fmt.Fprintf(b, " [%s]", strings.Join(s.Attributes, ", "))
	}
	for _, text := range []string{s.ErrorCode, s.ScimType, s.Detail} {
		if text != "" {
			fmt.Fprintf(b, " %s", printable(text))
		}
	}
	if s.RetryAfter != "" {
		fmt.Fprintf(b, " (Retry-After: %s)", printable(s.RetryAfter))
	}
	fmt.Fprintln(b)
}

// printable keeps a service provider from writing lines or escape sequences
// into a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func rounded(d time.Duration) time.Duration {
	if d < time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(100 * time.Microsecond)
}
