package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"scimgate/gateway/audit"
)

// heading stands above the records on a terminal; elsewhere it would be one more line to filter out.
var heading = []cell{
	{text: "time", style: dim}, {text: "kind", style: dim}, {text: "action", style: dim}, {text: "subject", style: dim},
	{text: "status", style: dim}, {text: "connection/credential", style: dim}, {text: "calls", style: dim, right: true},
	{text: "ms", style: dim, right: true}, {text: "request", style: dim},
}

// timeForm is RFC 3339 to the millisecond, so that lines line up.
const timeForm = "2006-01-02T15:04:05.000Z07:00"

// recordLine is one record in the columns of heading.
func recordLine(rec *audit.Record, utc bool) []cell {
	at := rec.Time.Local()
	if utc {
		at = rec.Time.UTC()
	}
	status := "-"
	if rec.Answer.Status != 0 {
		status = strconv.Itoa(rec.Answer.Status)
	}
	who := shown(orDash(rec.Connection)) + "/" + shown(orDash(rec.Credential))
	if rec.Connection == "" && rec.Credential == "" {
		who = "-"
	}
	subject := cmp.Or(rec.Subject.UserName, rec.Subject.ExternalID, rec.Subject.ID)
	return []cell{
		{text: at.Format(timeForm)}, {text: shown(orDash(rec.Kind)), style: kindStyle(rec.Kind)},
		{text: shown(orDash(rec.Action)), style: bold}, {text: shown(orDash(subject))},
		{text: status, style: statusStyle(rec.Answer.Status)}, {text: who}, {text: strconv.Itoa(len(rec.Calls)), right: true},
		{text: strconv.FormatFloat(rec.Duration, 'f', 1, 64), right: true}, {text: shown(orDash(rec.RequestID))},
	}
}

func kindStyle(kind string) string {
	switch kind {
	case audit.Unknown:
		return red
	case audit.Intent:
		return dim
	case audit.Reconciled, audit.Event:
		return cyan
	}
	return plain
}

func statusStyle(status int) string {
	switch {
	case status >= 500:
		return red
	case status >= 400:
		return yellow
	case status >= 200:
		return green
	}
	return plain
}

// details are the lines below a record with -v.
func (p *recordPrinter) details(rec *audit.Record) {
	record := []string{"#" + strconv.FormatInt(rec.Seq, 10), shown(rec.ID)}
	if rec.Intent != 0 {
		record = append(record, "of intent #"+strconv.FormatInt(rec.Intent, 10))
	}
	p.detail("record", record...)
	p.detail("request", named("", rec.Method), named("", rec.Op), named("", rec.ResourceType), named("from", rec.Source), named("boot", rec.Boot))
	p.detail("subject", named("userName", rec.Subject.UserName), named("id", rec.Subject.ID), named("externalId", rec.Subject.ExternalID))
	p.detail("plan", named("", rec.Plan))
	for i := range rec.Attributes {
		a := &rec.Attributes[i]
		p.detail("attribute", shown(a.Path), valueText("asked", a.Asked), valueText("sent", a.Sent), valueText("confirmed", a.Confirmed), note(a.Note))
	}
	for _, f := range rec.Findings {
		about := shown(f.Rule)
		if f.Path != "" {
			about += ", " + shown(f.Path)
		}
		p.detail("finding", p.screen.paint(verdictStyle(f.Verdict), shown(f.Verdict)), "("+about+")", named("", f.Reason))
	}
	if a := rec.Admission; a != nil {
		parts := []string{fmt.Sprintf("waited %.1f ms, breaker %s", a.Waited, shown(a.Breaker))}
		if a.Queued > 0 {
			parts = append(parts, fmt.Sprintf("with %s in the queue", plural(a.Queued, "request")))
		}
		if a.HoldOff > 0 {
			parts = append(parts, fmt.Sprintf("with %.0f ms of Retry-After left", a.HoldOff))
		}
		p.detail("admission", strings.Join(parts, ", "))
	}
	for _, c := range rec.Calls {
		answered := "no answer"
		if c.Status != 0 {
			answered = strconv.Itoa(c.Status)
		}
		p.detail("call", shown(callText(c)), fmt.Sprintf("attempt %d: %s, %.1f ms", c.Attempt, answered, c.Duration), named("error", c.Error))
	}
	if rec.Answer.Status != 0 {
		p.detail("answer", strconv.Itoa(rec.Answer.Status), named("", rec.Answer.ScimType), named("", rec.Answer.Detail))
	}
	p.detail("error", named("", rec.Error))
	if rec.Unrecorded > 0 {
		p.detail("refusals", strconv.FormatInt(rec.Unrecorded, 10), "without records of their own")
	}
}

// detail prints one line of details; none when it has nothing to say.
func (p *recordPrinter) detail(name string, parts ...string) {
	var said []string
	for _, part := range parts {
		if part != "" {
			said = append(said, part)
		}
	}
	if len(said) > 0 {
		p.screen.printf("    %s %s\n", p.screen.paint(dim, (name + "          ")[:10]), strings.Join(said, " "))
	}
}

// named is a value with a word before it; "" without a value.
func named(name, value string) string {
	if value == "" {
		return ""
	}
	return strings.TrimSpace(name + " " + shown(value))
}

func note(text string) string {
	if text == "" {
		return ""
	}
	return "(" + shownText(text) + ")"
}

// valueText is what happened to a value at one step.
func valueText(step string, v *audit.Value) string {
	if v == nil {
		return ""
	}
	return step + " " + string(appendShownJSON(nil, []byte(v.String())))
}

// callText is what was called. Target has the method, too.
func callText(c audit.Call) string {
	if strings.HasPrefix(c.Target, c.Method+" ") {
		return c.Target
	}
	return c.Method + " " + c.Target
}

// progress tells people on a terminal how far long work has come.
type progress struct {
	screen *screen
	total  int64 // 0 when it is not known
	next   time.Time
	shown  bool
}

// progressEvery is how often the line of progress changes.
const progressEvery = 200 * time.Millisecond

// at reports that done of the total is done.
func (p *progress) at(done int64) {
	if !p.screen.terminal {
		return
	}
	if now := time.Now(); now.After(p.next) {
		p.next, p.shown = now.Add(progressEvery), true
		if p.total > 0 {
			p.screen.printf("\r%d of %d records (%d %%)", done, p.total, done*100/p.total)
		} else {
			p.screen.printf("\r%d records", done)
		}
	}
}

// end takes the line of progress away.
func (p *progress) end() {
	if p.shown {
		p.screen.printf("\r%s\r", strings.Repeat(" ", 60))
	}
}
