package scim

import (
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Write is one value that a request asks to be stored or unassigned, whichever operation asks for it.
type Write struct {
	Ref     Ref            // the attribute or sub-attribute; of names no schema knows only Name is set
	Path    string         // as text, with what picks the element, but no value that may be personal: emails[type eq "work"].value
	Value   any            // nil: to be unassigned
	Element map[string]any // what is known of the element of a multi-valued complex attribute it belongs to
	Known   bool           // a schema has it
	Picked  bool           // a value filter picks the element: Element is not all there is in it
}

// Writes calls yield for every value that would be stored, alike for POST, PUT and PATCH, down to
// sub-attributes. `schemas` is not among them: it follows from the others. Names must be canonical.
func (req *Request) Writes() iter.Seq[Write] {
	return func(yield func(Write) bool) {
		if req.Op == OpPatch {
			for _, op := range req.Operations {
				if !op.writes(yield) {
					return
				}
			}
			return
		}
		for w := range req.Type.Values(req.Resource) {
			if !yield(w) {
				return
			}
		}
	}
}

// Values calls yield for every value of a resource, down to sub-attributes, sorted by name.
func (rt *ResourceType) Values(r Resource) iter.Seq[Write] {
	return func(yield func(Write) bool) {
		var few [fewNames]string
		for _, name := range sorted(few[:0], r) {
			if name == "schemas" {
				continue
			}
			if e := rt.Extension(name); e != nil {
				ext, _ := r[name].(map[string]any)
				var few [8]string
				for _, sub := range sorted(few[:0], ext) {
					ref, a := Ref{Schema: e.ID, Name: sub}, e.Attribute(sub)
					if !values(ref, a.pathOf(ref), a, ext[sub], yield) {
						return
					}
				}
				continue
			}
			if !values(Ref{Name: name}, name, rt.coreAttribute(name), r[name], yield) {
				return
			}
		}
	}
}

// sorted appends the names of an object's members to dst and sorts them.
func sorted(dst []string, m map[string]any) []string {
	dst = appendNames(dst, m)
	slices.Sort(dst)
	return dst
}

func values(ref Ref, path string, a *Attribute, v any, yield func(Write) bool) bool {
	switch v := v.(type) {
	case map[string]any:
		if a != nil && a.Kind == Complex {
			return subValues(ref, path, a, v, nil, yield)
		}
	case []any:
		if a != nil && a.Kind == Complex {
			for i, e := range v {
				m, ok := e.(map[string]any)
				if !ok {
					continue
				}
				if !subValues(ref, path+selector(m, i), a, m, m, yield) {
					return false
				}
			}
			return true
		}
	}
	return yield(Write{Ref: ref, Path: path, Value: v, Known: a != nil})
}

func subValues(ref Ref, path string, a *Attribute, m, element map[string]any, yield func(Write) bool) bool {
	var few [8]string
	for _, sub := range sorted(few[:0], m) {
		ref.Sub = sub
		known := a.SubAttribute(sub)
		w := Write{Ref: ref, Value: m[sub], Element: element, Known: known != nil}
		if element == nil && known != nil {
			w.Path = known.pathOf(ref)
		} else {
			w.Path = path + "." + sub
		}
		if !yield(w) {
			return false
		}
	}
	return true
}

// maxSelector is the longest type that tells an element apart, in bytes. A path is written for every sub-attribute of
// an element, so that a longer one would cost its length many times.
const maxSelector = 128

// selector tells the elements of a multi-valued attribute apart in a path.
func selector(element map[string]any, index int) string {
	if t, ok := element["type"].(string); ok && len(t) <= maxSelector {
		return string(append(appendString([]byte("[type eq "), t), ']'))
	}
	return "[" + strconv.Itoa(index) + "]"
}

func (op *PatchOp) writes(yield func(Write) bool) bool {
	if op.Path == nil { // only before it was normalized
		return true
	}
	if op.Target.Attribute == nil {
		return yield(Write{Ref: Ref{Name: op.Path.AttributePath.String()}, Path: discreetPath(op.Path), Value: op.Value})
	}
	path := discreetPath(op.Path)
	w := Write{Ref: op.Target.Ref, Path: path, Value: op.Value, Known: true}
	if op.Path.ValueExpression != nil {
		w.Element, w.Picked = EqualTerms(op.Path.ValueExpression), true
		op.Target.Attribute.canonicalize(w.Element)
		plain := yield
		yield = func(w Write) bool {
			w.Picked = true
			return plain(w)
		}
	}
	switch v := op.Value.(type) {
	case map[string]any:
		if op.Target.Sub == nil && op.Target.Attribute.Kind == Complex {
			element := w.Element
			if op.Target.Attribute.MultiValued {
				element = maps.Clone(v)
				for k, e := range w.Element {
					if element[k] == nil {
						element[k] = e
					}
				}
			}
			return subValues(w.Ref, path, op.Target.Attribute, v, element, yield)
		}
	case []any:
		if op.Target.Sub == nil && op.Target.Attribute.Kind == Complex {
			return values(w.Ref, path, op.Target.Attribute, v, yield)
		}
	}
	return yield(w)
}

// discreetPath is FormatPath with "..." for the values in a value filter, because paths stand in the trail and in
// errors. The values of type are shown.
func discreetPath(path *Path) string {
	p := printer{discreet: true}
	p.path(path)
	if len(p.b) > maxPath {
		return strings.ToValidUTF8(string(p.b[:maxPath]), "") + "..."
	}
	return string(p.b)
}

// maxPath is the longest path of a Write, in bytes, but for the name of a sub-attribute behind it.
const maxPath = 128

// EqualTerms are the sub-attributes that a value filter pins down by `eq`: what an element that the filter picks
// is known to hold.
func EqualTerms(f Filter) map[string]any {
	terms := map[string]any{}
	var walk func(Filter)
	walk = func(f Filter) {
		switch f := f.(type) {
		case *LogicalExpression:
			if f.Operator == And {
				walk(f.Left)
				walk(f.Right)
			}
		case *AttributeExpression:
			if strings.EqualFold(string(f.Operator), string(Eq)) && f.CompareValue != nil {
				terms[f.AttributePath.AttributeName] = f.CompareValue
			}
		}
	}
	walk(f)
	return terms
}
