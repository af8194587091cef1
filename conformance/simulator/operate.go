package simulator

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"scimgate/transform/scim"
)

// duplicateMessage is what the vendor's REST API says to a duplicate.
const duplicateMessage = "Email address is already taken"

// errREST marks an error that is answered in the REST API's form, whatever the other errors look like.
var errREST = errors.New("a REST error")

// operate carries out one request on resources. The simulator is locked. The resource in the response may share
// values with the store, which never change.
func (s *Simulator) operate(k *kind, req *scim.Request, base string) (*scim.Response, error) {
	if err := s.offers(k, req); err != nil {
		return nil, err
	}
	switch req.Op {
	case scim.OpCreate:
		return s.create(k, req, base)
	case scim.OpQuery:
		return s.query(k, req, base)
	}
	rec := k.byID[req.ID]
	if rec == nil {
		return nil, scim.NotFound(k.rt.Name, req.ID)
	}
	if req.Op == scim.OpGet {
		if s.etag && req.Preconditions.IfNoneMatch != "" && listed(req.Preconditions.IfNoneMatch, rec) {
			return &scim.Response{Status: http.StatusNotModified, Version: version(rec)}, nil
		}
		return s.answer(k, rec, req, base, http.StatusOK), nil
	}
	// RFC 7644, Section 3.14; RFC 9110, Section 13.1.1.
	if s.etag && req.Preconditions.IfMatch != "" && !listed(req.Preconditions.IfMatch, rec) {
		return nil, scim.Errorf(http.StatusPreconditionFailed, "", "%s %q has another version now: read it again", k.rt.Name, req.ID)
	}
	switch req.Op {
	case scim.OpReplace:
		return s.replace(k, rec, req, base)
	case scim.OpPatch:
		return s.patch(k, rec, req, base)
	default:
		return s.delete(k, rec)
	}
}

// offers refuses operations that the service provider does not have: 405 with what it has, and 501 for a PATCH or
// PUT that is not implemented, which RFC 7644, Section 3.2 leaves optional.
func (s *Simulator) offers(k *kind, req *scim.Request) error {
	if req.Op == scim.OpPatch && !s.patches() || req.Op == scim.OpReplace && s.cfg.Assume.NoPut {
		return scim.Errorf(http.StatusNotImplemented, "", "%s is not implemented", req.Op)
	}
	if k.ops[req.Op] {
		return nil
	}
	table := []struct {
		op      scim.Op
		methods []string
	}{{scim.OpGet, []string{"GET", "HEAD"}}, {scim.OpReplace, []string{"PUT"}}, {scim.OpPatch, []string{"PATCH"}}, {scim.OpDelete, []string{"DELETE"}}}
	if req.ID == "" {
		table = table[:2]
		table[0].op = scim.OpQuery
		table[1].op, table[1].methods = scim.OpCreate, []string{"POST"}
	}
	e := scim.Errorf(http.StatusMethodNotAllowed, "", "%s is not offered for %s", req.Op, k.rt.Name)
	for _, row := range table {
		if k.ops[row.op] {
			e.Allow = append(e.Allow, row.methods...)
		}
	}
	return e
}

// listed reports whether a precondition names a record's version. Versions compare weakly, as SCIM's are weak.
func listed(header string, rec *record) bool {
	opaque := func(tag string) string { return strings.TrimPrefix(strings.TrimSpace(tag), "W/") }
	for tag := range strings.SplitSeq(header, ",") {
		if strings.TrimSpace(tag) == "*" || opaque(tag) == opaque(version(rec)) {
			return true
		}
	}
	return false
}

func (s *Simulator) answer(k *kind, rec *record, req *scim.Request, base string, status int) *scim.Response {
	resp := &scim.Response{Status: status, Resource: s.render(k, rec, req.Query, base), Location: location(k, rec, base)}
	if s.etag {
		resp.Version = version(rec)
	}
	return resp
}

func (s *Simulator) create(k *kind, req *scim.Request, base string) (*scim.Response, error) {
	r, err := s.intake(k, req.Resource.Clone())
	if err != nil {
		return nil, err
	}
	if s.cfg.Assume.ActiveOnCreate && k.rt.Name == "User" {
		r["active"] = true
	}
	if err := s.admissible(k, nil, r); err != nil {
		return nil, err
	}
	rec := s.insert(k, r)
	return s.answer(k, rec, req, base, http.StatusCreated), nil
}

func (s *Simulator) replace(k *kind, rec *record, req *scim.Request, base string) (*scim.Response, error) {
	r, err := s.intake(k, req.Resource.Clone())
	if err != nil {
		return nil, err
	}
	if err := s.admissible(k, rec, r); err != nil {
		return nil, err
	}
	return s.commit(k, rec, r, req, base), nil
}

func (s *Simulator) patch(k *kind, rec *record, req *scim.Request, base string) (*scim.Response, error) {
	if s.single && len(req.Operations) > 1 {
		return nil, scim.BadRequest(scim.InvalidValue, "a PATCH may have one operation, not %d", len(req.Operations))
	}
	ops := k.readForms(req.Operations)
	if s.cfg.Assume.MissingElement == Refuse {
		if err := k.missing(s.view(k, rec, base), ops); err != nil {
			return nil, err
		}
	}
	next, _, err := k.rt.ApplyPatch(s.view(k, rec, base), ops)
	if err != nil {
		return nil, err
	}
	if next, err = s.intake(k, next); err != nil {
		return nil, err
	}
	if err := s.admissible(k, rec, next); err != nil {
		return nil, err
	}
	was := rec.version
	resp := s.commit(k, rec, next, req, base)
	// Both answers are right, but for who names attributes (RFC 7644, Section 3.5.2).
	if (s.cfg.Assume.PatchNoContent || rec.version == was) && req.Query.Attributes == nil {
		resp.Status, resp.Resource = http.StatusNoContent, nil
	}
	return resp, nil
}

// missing refuses an add at a value filter that selects nothing, as replace is (RFC 7644, Section 3.5.2.3). Everything
// else is left for ApplyPatch to refuse.
func (k *kind) missing(r scim.Resource, ops []scim.PatchOp) error {
	p := k.rt.BeginPatch(r)
	for i, op := range ops {
		if whole, ok := k.rt.Lookup(op.Target.Ref.Parent()); ok && op.Op == "add" && op.Path != nil && op.Path.ValueExpression != nil {
			if has, err := p.Has(whole, op.Path.ValueExpression); err == nil && !has {
				return scim.BadRequest(scim.NoTarget, "Operations[%d]: no value of %s matches the filter", i, whole.Ref)
			}
		}
		if p.Apply(&op) != nil {
			return nil
		}
	}
	return nil
}

func (s *Simulator) delete(k *kind, rec *record) (*scim.Response, error) {
	if s.cfg.Assume.Delete == Disables && k.rt.Name == "User" {
		r := maps.Clone(rec.resource)
		r["active"] = false
		s.update(k, rec, r)
	} else {
		s.remove(k, rec)
	}
	return &scim.Response{Status: http.StatusNoContent}, nil
}

// intake makes what a client sent ready to be stored: without what the service provider lacks or clients cannot
// set, and valid. r is the caller's no more.
func (s *Simulator) intake(k *kind, r scim.Resource) (scim.Resource, error) {
	k.rt.Canonicalize(r)
	k.readForm(r)
	touched := scim.Resource{}
	for name, v := range r {
		if name == "schemas" || k.rt.Extension(name) != nil || k.has.Touches(scim.Ref{Name: name}) {
			touched[name] = v
		}
	}
	if err := k.rt.Validate(touched); err != nil {
		return nil, err
	}
	have, lack := k.has.Split(r)
	if s.cfg.Assume.UnknownAttributes == Refuse {
		if err := k.refuse(lack); err != nil {
			return nil, err
		}
	}
	for _, ref := range k.stripped {
		delete(have, ref.Name)
	}
	tidy(have)
	if s.cfg.Assume.LowerCaseUserName && have.UserName() != "" {
		have["userName"] = strings.ToLower(have.UserName())
	}
	k.rt.SetSchemas(have)
	return have, nil
}

// refuse names the first value among what the service provider lacks. What clients cannot set anyway, what is empty,
// and what is left of an element when its value was removed, does no harm.
func (k *kind) refuse(lack scim.Resource) error {
	for w := range k.rt.Values(lack) {
		whole := w.Ref.Parent()
		if scim.Empty(w.Value) || slices.Contains(k.stripped, whole) || slices.ContainsFunc(k.limits, func(l limit) bool { return l.picksBy(k, w) }) {
			continue
		}
		return scim.BadRequest(scim.InvalidValue, "the attribute %s is not supported", w.Path)
	}
	return nil
}

// tidy drops what is unassigned (RFC 7643, Section 2.5), at the top and in extensions, and repeated members.
func tidy(r scim.Resource) {
	for name, v := range r {
		if ext, ok := v.(map[string]any); ok {
			maps.DeleteFunc(ext, func(_ string, v any) bool { return scim.Empty(v) })
		}
		if scim.Empty(v) {
			delete(r, name)
		}
	}
	members, ok := r["members"].([]any)
	if !ok {
		return
	}
	seen := map[string]bool{}
	r["members"] = slices.DeleteFunc(members, func(e any) bool {
		m, _ := e.(map[string]any)
		id, _ := m["value"].(string)
		again := id != "" && seen[id]
		seen[id] = true
		return again
	})
}

// readForm makes the RFC's form of attributes that are written as a plain string, in place.
func (k *kind) readForm(r scim.Resource) {
	for _, ref := range k.forms {
		if text, ok := r.Get(ref).(string); ok {
			r.Set(ref, map[string]any{"value": text})
		}
	}
}

// readForms is readForm for the operations of a PATCH, which stay as they are. Paths are resolved again, because
// they may have been with another resource type.
func (k *kind) readForms(ops []scim.PatchOp) []scim.PatchOp {
	ops = slices.Clone(ops)
	for i := range ops {
		op := &ops[i]
		if op.Path == nil {
			if m, ok := op.Value.(map[string]any); ok {
				op.Value = k.readFormsOf(m)
			}
			continue
		}
		op.Target, _ = k.rt.ResolvePath(op.Path)
		switch v := op.Value.(type) {
		case string:
			if slices.Contains(k.forms, op.Target.Ref) {
				op.Value = map[string]any{"value": v}
			}
		case map[string]any:
			if e := k.rt.PathExtension(op.Path); e != nil {
				r := scim.Resource{e.ID: scim.CloneValue(v)}
				k.rt.Canonicalize(r)
				k.readForm(r)
				op.Value = r[e.ID]
			}
		}
	}
	return ops
}

// readFormsOf reads the value of an operation without a path: names may be attribute paths.
func (k *kind) readFormsOf(value map[string]any) map[string]any {
	r := scim.Resource(value).Clone()
	k.rt.Canonicalize(r)
	k.readForm(r)
	for name, v := range r {
		text, ok := v.(string)
		if !ok {
			continue
		}
		if p, err := scim.ParseAttributePath(name); err == nil {
			if t, ok := k.rt.Resolve(p); ok && slices.Contains(k.forms, t.Ref) {
				r[name] = map[string]any{"value": text}
			}
		}
	}
	return r
}

// admissible holds a resource against the profile's limits and against what must be unique; rec is nil on create.
func (s *Simulator) admissible(k *kind, rec *record, r scim.Resource) error {
	var old scim.Resource
	if rec != nil {
		old = rec.resource
	}
	if err := k.keepLimits(old, r, s.cfg.Assume.TooLong); err != nil {
		return err
	}
	for _, x := range k.unique {
		for _, key := range x.keys(r) {
			if !slices.ContainsFunc(x.records[key], func(other *record) bool { return other != rec }) {
				continue
			}
			if s.cfg.Assume.DuplicateREST {
				return &scim.Error{Status: http.StatusBadRequest, Detail: duplicateMessage, Err: errREST}
			}
			return scim.Errorf(http.StatusConflict, scim.Uniqueness, "another %s has this %s", k.rt.Name, x.target.Ref)
		}
	}
	return nil
}

// commit stores a changed resource and answers with it.
func (s *Simulator) commit(k *kind, rec *record, r scim.Resource, req *scim.Request, base string) *scim.Response {
	r["id"] = rec.id()
	s.update(k, rec, r)
	resp := s.answer(k, rec, req, base, http.StatusOK)
	if s.cfg.Assume.Disable == Removes && inactive(rec) {
		s.remove(k, rec)
	}
	return resp
}

func inactive(rec *record) bool { return rec.resource["active"] == false }

func (s *Simulator) insert(k *kind, r scim.Resource) *record {
	if r.ID() == "" {
		r["id"] = s.newID(k)
	}
	s.seq++
	now := s.cfg.Clock()
	rec := &record{seq: s.seq, resource: r, created: now, modified: now, version: 1}
	k.insert(rec)
	return rec
}

// update stores r; what changes nothing makes no version.
func (s *Simulator) update(k *kind, rec *record, r scim.Resource) {
	if reflect.DeepEqual(rec.resource, r) {
		return
	}
	k.update(rec, r)
	rec.modified = s.cfg.Clock()
	rec.version++
}

// remove takes a record off its shelf, and out of the groups it is a member of.
func (s *Simulator) remove(k *kind, rec *record) {
	k.remove(rec)
	groups := s.kind("Group")
	if groups == nil {
		return
	}
	members := groups.index(scim.Ref{Name: "members", Sub: "value"})
	for _, g := range slices.Clone(members.records[members.key(rec.id())]) {
		r := maps.Clone(g.resource)
		list, _ := r["members"].([]any)
		list = slices.DeleteFunc(slices.Clone(list), func(e any) bool { m, _ := e.(map[string]any); return m["value"] == rec.id() })
		if r["members"] = list; len(list) == 0 {
			delete(r, "members")
		}
		s.update(groups, g, r)
	}
}

// newID makes an id that nothing on the shelf has.
func (s *Simulator) newID(k *kind) string {
	for {
		id := ""
		if s.cfg.Assume.IDs == UUID {
			a, b := s.rand.Uint64(), s.rand.Uint64()
			id = fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, 0x8000|b>>48&0x3fff, b&0xffffffffffff)
		} else {
			s.lastID++
			id = fmt.Sprint(s.lastID)
		}
		if k.byID[id] == nil {
			return id
		}
	}
}

func (s *Simulator) query(k *kind, req *scim.Request, base string) (*scim.Response, error) {
	q := req.Query
	matches, err := s.find(k, q.Filter, base)
	if err != nil {
		return nil, err
	}
	if q.SortBy != nil && s.cfg.Profile.Sort {
		matches = s.sortRecords(k, matches, *q.SortBy, q.Descending, base)
	}
	start := max(q.StartIndex, 1)
	count := s.cfg.PageSize
	if q.Count != nil {
		count = min(max(*q.Count, 0), count)
	}
	from := min(start-1, len(matches))
	page := matches[from:min(from+count, len(matches))]
	resp := &scim.Response{Status: http.StatusOK, List: make([]scim.Resource, len(page)), TotalResults: len(matches), StartIndex: start}
	for i, rec := range page {
		resp.List[i] = s.render(k, rec, q, base)
	}
	return resp, nil
}

// find returns the records that match a filter, in order of creation. The slice is not to be changed.
func (s *Simulator) find(k *kind, f scim.Filter, base string) ([]*record, error) {
	hides := s.cfg.Assume.Disable == Hides
	full := false
	if f != nil {
		refs, err := k.rt.Attributes(f)
		if err == nil && !k.filter.All && !k.allows(f, nil) {
			err = scim.BadRequest(scim.InvalidFilter, "this filter is not supported")
		}
		if err != nil {
			switch s.cfg.Assume.FilterUnsupported {
			case Empty:
				return nil, nil
			case Ignore:
				f = nil
			default:
				return nil, err
			}
		}
		full = slices.ContainsFunc(refs, func(ref scim.Ref) bool { return ref.Name == "meta" || ref.Name == "groups" })
	}
	if f == nil && !hides {
		return k.order, nil
	}
	var matches []*record
	for _, rec := range k.candidates(f) {
		if hides && inactive(rec) {
			continue
		}
		r := rec.resource
		if full {
			r = s.view(k, rec, base)
		}
		ok, err := k.rt.Match(f, r)
		if err != nil {
			return nil, err
		}
		if ok {
			matches = append(matches, rec)
		}
	}
	return matches, nil
}
