package profile

import (
	"slices"
	"strings"
)

const maxAttributes = 500 // of one resource; the core User schema with its sub-attributes has about 80

var (
	filterOperators = []string{"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le", "pr"} // RFC 7644, Table 3
	scimTypes       = []string{"invalidFilter", "tooMany", "uniqueness", "mutability", "invalidSyntax", "invalidPath",
		"noTarget", "invalidValue", "invalidVers", "sensitive"} // RFC 7644, Table 9
)

func (r *Resource) readAttributes(v Value) {
	for _, entry := range v.List(0, maxAttributes) {
		a := Attribute{OnViolation: ViolationReject}
		a.read(entry)
		if a.Path == "" {
			continue
		}
		if other := r.attribute(a.Path); other != nil {
			entry.Problemf("%s is listed already, in line %d", Quote(a.Path), other.Line)
			continue
		}
		r.Attributes = append(r.Attributes, a)
	}
}

// override changes r by the overrides in v. What an attribute's override does not mention stays.
func (r *Resource) override(v Value, filter Filter) {
	var paths []string
	v.Fields(Fields{
		"unlisted": func(v Value) {
			r.Unlisted = v.handling()
			if r.Complete {
				v.Problemf("the profile is complete for %s: nothing is unlisted", r.Name)
			}
		},
		"attributes": func(v Value) {
			for _, entry := range v.List(0, maxAttributes) {
				path := entry.lookup("path")
				if path != "" && slices.ContainsFunc(paths, func(p string) bool { return strings.EqualFold(p, path) }) {
					entry.Problemf("%s is listed twice", Quote(path))
				}
				paths = append(paths, path)
				if a := r.attribute(path); a != nil {
					a.read(entry)
					continue
				}
				a := Attribute{OnViolation: ViolationReject}
				a.read(entry)
				r.Attributes = append(r.Attributes, a)
			}
		},
	})
	// Only what the overrides touched is checked: the profile itself was free of contradictions.
	touched := *r
	touched.Attributes = slices.DeleteFunc(slices.Clone(r.Attributes), func(a Attribute) bool {
		return !slices.ContainsFunc(paths, func(p string) bool { return strings.EqualFold(p, a.Path) })
	})
	touched.checkAttributes(filter, v)
}

func (r *Resource) attribute(path string) *Attribute {
	for i := range r.Attributes {
		if strings.EqualFold(r.Attributes[i].Path, path) {
			return &r.Attributes[i]
		}
	}
	return nil
}

// read puts what v says into a and leaves the rest of a as it was.
func (a *Attribute) read(v Value) {
	a.File = v.File()
	a.Line, a.Column = v.Position()
	v.Fields(Fields{
		"path":        func(v Value) { a.Path = v.path() },
		"handling":    func(v Value) { a.Handling = Handling(v.OneOf("refuse", "drop", "keep", "")) },
		"required":    func(v Value) { a.Required = v.Bool() },
		"maxLength":   func(v Value) { a.MaxLength = v.Int(0, 1<<20) },
		"forbidden":   func(v Value) { a.Forbidden = v.Text() },
		"onViolation": func(v Value) { a.OnViolation = Violation(v.OneOf("reject", "alias")) },
		"createOnly":  func(v Value) { a.CreateOnly = v.Bool() },
		"form":        func(v Value) { a.Form = Form(v.OneOf("value", "")) },
		"filter":      func(v Value) { a.Filter = v.filterOperators() },
	}, "path")
}

// path reads an attribute path. Its syntax is checked where paths are compiled.
func (v Value) path() string {
	text := v.Text()
	switch strings.ToLower(text) {
	case "id", "schemas", "meta":
		v.Problemf("%s is always there and not the profile's to limit: take it out", text)
		return ""
	}
	return text
}

func (v Value) filterOperators() []string {
	var list []string
	for _, entry := range v.List(0, len(filterOperators)) {
		op := entry.OneOf(filterOperators...)
		switch {
		case op == "":
		case slices.Contains(list, op):
			entry.Problemf("%s stands here twice", op)
		default:
			list = append(list, op)
		}
	}
	return list
}

// checkAttributes adds the contradictions in r's attributes to the Problems of v, each at its attribute.
func (r *Resource) checkAttributes(filter Filter, v Value) {
	for _, a := range r.Attributes {
		for _, message := range a.contradictions(r, filter) {
			*v.doc.problems = append(*v.doc.problems, Problem{a.File, a.Line, a.Column, a.Path + ": " + message})
		}
	}
}

func (a *Attribute) contradictions(r *Resource, filter Filter) []string {
	var found []string
	report := func(wrong bool, message string) {
		if wrong {
			found = append(found, message)
		}
	}
	if a.Handling != "" {
		limits := a.Required || a.MaxLength > 0 || a.Forbidden != "" || a.OnViolation == ViolationAlias ||
			a.CreateOnly || a.Form != FormRFC || len(a.Filter) > 0
		report(limits, "handling "+string(a.Handling)+" says that the upstream lacks it: limits, form and filter make no sense beside it")
		report(r.Complete, "handling "+string(a.Handling)+" says that the upstream lacks it, but the resource is complete")
		return found
	}
	if a.OnViolation == ViolationAlias {
		isUserName := strings.EqualFold(a.Path, "userName") || strings.EqualFold(a.Path, "urn:ietf:params:scim:schemas:core:2.0:User:userName")
		report(r.Name != "User" || !isUserName, "onViolation: alias is for the userName of a User only; use reject")
		report(a.MaxLength == 0 && a.Forbidden == "", "onViolation: alias without maxLength or forbidden never happens: give the limit")
	}
	report(filter.All && len(a.Filter) > 0, "filter: the profile's filter says all: take the operators out, or all")
	return found
}

// checkOperations adds what r's operations cannot do together with the profile's update mode.
func (p *Profile) checkOperations(r *Resource, v Value) {
	report := func(message string) {
		*v.doc.problems = append(*v.doc.problems, Problem{p.File, r.Line, r.Column, r.Name + ": " + message})
	}
	has := func(op Operation) bool { return slices.Contains(r.Operations, op) }
	if p.Update.Mode == UpdatePut && has(OpPatch) && !(has(OpGet) && has(OpReplace)) {
		report("update mode put carries a patch as get and replace: both must be among the operations")
	}
	if p.Update.ReadBack && !has(OpGet) {
		report("update readBack needs the operation get")
	}
}

func (p *Profile) readErrors(v Value) {
	for _, entry := range v.List(0, 100) {
		rule := ErrorRule{}
		rule.Line, rule.Column = entry.Position()
		entry.Fields(Fields{
			"status":   func(v Value) { rule.Status = v.Int(400, 599) },
			"contains": func(v Value) { rule.Contains = v.Text() },
			"as": func(v Value) {
				v.Fields(Fields{
					"status":   func(v Value) { rule.As.Status = v.Int(400, 599) },
					"scimType": func(v Value) { rule.As.ScimType = v.OneOf(append(scimTypes, "")...) },
				}, "status")
			},
		}, "status", "as")
		for _, earlier := range p.Errors {
			if earlier.Status == rule.Status && strings.Contains(strings.ToLower(rule.Contains), strings.ToLower(earlier.Contains)) {
				entry.Problemf("never used: the rule in line %d takes these answers first", earlier.Line)
				break
			}
		}
		p.Errors = append(p.Errors, rule)
	}
}
