package main

import (
	"bytes"
	"encoding/csv"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"scimgate/gateway/audit"
)

// exportForms are the forms of an export, by name.
var exportForms = map[string]exportForm{
	"jsonl": {verifiable: true, line: func(dst []byte, rec *audit.Record) []byte { return append(audit.Append(dst, rec), '\n') }},
	"ocsf":  {line: appendOCSFLines},
	"csv":   {head: csvLine(nil, csvNames()), line: appendCSVLine},
}

// exportForm writes records.
type exportForm struct {
	verifiable bool   // an export of all is written by audit.Export
	head       []byte // stands above them
	line       func(dst []byte, rec *audit.Record) []byte
}

// appendOCSFLines writes the one or two events that a record is in OCSF, as sinks of that format get them.
func appendOCSFLines(dst []byte, rec *audit.Record) []byte {
	for _, e := range audit.Formats["ocsf"](nil, rec, audit.Append(nil, rec)) {
		dst = append(append(dst, e.Text...), '\n')
	}
	return dst
}

// csvColumns are the columns of an export as CSV. It is for people and spreadsheets: attributes and calls are only named
// and counted, the other forms have all of them.
var csvColumns = []struct {
	name string
	text func(rec *audit.Record) string
}{
	{"seq", func(r *audit.Record) string { return strconv.FormatInt(r.Seq, 10) }},
	{"time", func(r *audit.Record) string { return r.Time.UTC().Format(time.RFC3339Nano) }},
	{"kind", func(r *audit.Record) string { return r.Kind }},
	{"action", func(r *audit.Record) string { return r.Action }},
	{"outcome", audit.OutcomeOf},
	{"status", func(r *audit.Record) string { return number(int64(r.Answer.Status)) }},
	{"userName", func(r *audit.Record) string { return r.Subject.UserName }},
	{"id", func(r *audit.Record) string { return r.Subject.ID }},
	{"externalId", func(r *audit.Record) string { return r.Subject.ExternalID }},
	{"connection", func(r *audit.Record) string { return r.Connection }},
	{"credential", func(r *audit.Record) string { return r.Credential }},
	{"source", func(r *audit.Record) string { return r.Source }},
	{"method", func(r *audit.Record) string { return r.Method }},
	{"operation", func(r *audit.Record) string { return r.Op }},
	{"resourceType", func(r *audit.Record) string { return r.ResourceType }},
	{"attributes", func(r *audit.Record) string {
		return joined(r.Attributes, func(a audit.Attribute) string { return a.Path })
	}},
	{"rules", func(r *audit.Record) string {
		return joined(r.Findings, func(f audit.Finding) string { return f.Verdict + " " + f.Rule })
	}},
	{"calls", func(r *audit.Record) string { return strconv.Itoa(len(r.Calls)) }},
	{"scimType", func(r *audit.Record) string { return r.Answer.ScimType }},
	{"detail", func(r *audit.Record) string { return r.Answer.Detail }},
	{"error", func(r *audit.Record) string { return r.Error }},
	{"milliseconds", func(r *audit.Record) string { return strconv.FormatFloat(r.Duration, 'f', -1, 64) }},
	{"requestId", func(r *audit.Record) string { return r.RequestID }},
	{"recordId", func(r *audit.Record) string { return r.ID }},
	{"intent", func(r *audit.Record) string { return number(r.Intent) }},
}

func csvNames() []string {
	var names []string
	for _, c := range csvColumns {
		names = append(names, c.name)
	}
	return names
}

func appendCSVLine(dst []byte, rec *audit.Record) []byte {
	cells := make([]string, len(csvColumns))
	for i, c := range csvColumns {
		cells[i] = safeCell(c.text(rec))
	}
	return csvLine(dst, cells)
}

// csvLine writes one line as RFC 4180 has it.
func csvLine(dst []byte, cells []string) []byte {
	b := bytes.NewBuffer(dst)
	w := csv.NewWriter(b)
	w.UseCRLF = true
	_ = w.Write(cells) // neither the buffer nor the separator can fail
	w.Flush()
	return b.Bytes()
}

// formula finds what makes a spreadsheet take a cell for a formula, also where it is in quotes: at its beginning, or behind
// a semicolon, which separates cells in half of the world. The last four are forms that some spreadsheets fold.
var formula = regexp.MustCompile("(^|;)([ \"']*)([-=+@\uff1d\uff0b\uff0d\uff20])")

// safeCell is a text that a spreadsheet shows rather than runs: an apostrophe stands before what would begin a formula.
// What is invisible is written as an escape, so that a line is a record.
func safeCell(text string) string {
	return formula.ReplaceAllString(shownText(text), "$1$2'$3")
}

// number is n, or nothing for 0.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// joined are the different names in a list.
func joined[T any](list []T, name func(T) string) string {
	var names []string
	for _, one := range list {
		if n := name(one); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return strings.Join(names, "; ")
}
