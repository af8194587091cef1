package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"scimgate/config"
	"scimgate/config/profile"
	"scimgate/gateway"
	"scimgate/policy"
	"scimgate/transform"
	"scimgate/transform/scim"
)

const explainLong = `Read one SCIM request from standard input and print what the gateway would do with it: what it would reshape, what
every policy rule says, and either the refusal or the exact requests it would send upstream. Nothing is sent, stored
or looked up, so that aliases and kept attributes of existing users are not known here.

The request has one of two forms:

  An HTTP request as text. The version and the headers may be left out; a blank line stands before the body. The path
  may begin with the connection's base path, and may be a whole URL.

      POST /Users HTTP/1.1
      Content-Type: application/scim+json

      {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "babs@example.com"}

  A JSON body alone. A PatchOp is taken for PATCH /Users/{id}, a User for POST /Users, a Group for POST /Groups.

--method and --path take the place of what the input says; with both of them the input may be empty. Without --config
the file that SCIMGATE_CONFIG names is read, or else the environment alone; --profile explains for the bare profile
and reads no configuration. Passwords are shown as [secret].

The exit code is 0 if the request would be sent, 1 if it would be refused, and 2 if no request could be read.`

// explainFlags are the flags of explain.
type explainFlags struct {
	config, connection, profile, method, path string
	json                                      bool
}

func newExplain(env func(string) string) *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Show what the gateway would do with a request; nothing is sent",
		Long:  explainLong,
		Example: "  scimgate explain --config scimgate.yaml < request.txt\n" +
			"  scimgate explain --profile bluejeans --json < patch.json\n" +
			"  scimgate explain --profile bluejeans --method GET --path '/Users?filter=title pr' < /dev/null",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return explain(cmd, &f, env) },
	}
	configFlag(cmd, &f.config)
	flags := cmd.Flags()
	flags.StringVar(&f.connection, "connection", "", "name of the connection (default: the only one, or the one whose path the request has)")
	flags.StringVar(&f.profile, "profile", "", "explain for this profile, built-in or a file, without a configuration")
	flags.StringVar(&f.method, "method", "", "HTTP method, in the place of the input's")
	flags.StringVar(&f.path, "path", "", "path and query, in the place of the input's")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func explain(cmd *cobra.Command, f *explainFlags, env func(string) string) error {
	doors, err := doorsFor(cmd, f, env)
	if err != nil {
		return err
	}
	msg, err := readMessage(cmd, f)
	if err != nil {
		return err
	}
	d, err := pick(cmd, doors, f.connection, msg)
	if err != nil {
		return err
	}
	e, err := d.explain(cmd.Context(), msg)
	if err != nil {
		return err
	}
	if f.json {
		err = printJSON(cmd.OutOrStdout(), e)
	} else {
		e.print(newScreen(cmd.OutOrStdout(), env))
	}
	if err == nil && e.Refused != nil {
		err = errTold
	}
	return err
}

// door is one connection as far as explain needs it.
type door struct {
	name     string // "" without a configuration
	path     string // SCIM base path
	upstream string // base URL
	profile  *profile.Profile
	maxBody  int64
}

// noUpstream stands in for the base URL of a profile that has none.
const noUpstream = "https://upstream.example"

// doorsFor are the connections that may be meant. An error here is never a refusal, so it is a usageError.
func doorsFor(cmd *cobra.Command, f *explainFlags, env func(string) string) ([]*door, error) {
	if f.profile != "" {
		if f.config != "" || f.connection != "" {
			return nil, usage(cmd, "--profile reads no configuration: leave out --config and --connection")
		}
		p, err := profile.Load(f.profile)
		if err == nil {
			err = uncompiled(nil, p).Err()
		}
		if err != nil {
			return nil, &usageError{err}
		}
		return []*door{bare(p)}, nil
	}
	cfg, err := loadConfig(f.config, env)
	if err != nil {
		return nil, &usageError{err}
	}
	if len(cfg.Connections) == 0 {
		return []*door{bare(cfg.Simulate)}, nil
	}
	var doors []*door
	for _, c := range cfg.Connections {
		doors = append(doors, &door{name: c.Name, path: c.Path, upstream: c.Upstream.URL, profile: c.Profile, maxBody: cfg.Limits.Body})
	}
	return doors, nil
}

func bare(p *profile.Profile) *door {
	return &door{path: config.DefaultPath, upstream: cmp.Or(p.URL, noUpstream), profile: p, maxBody: config.DefaultBody}
}

// pick finds the connection a message is for.
func pick(cmd *cobra.Command, doors []*door, name string, msg *message) (*door, error) {
	var names []string
	var at *door
	for _, d := range doors {
		names = append(names, d.name)
		if d.name == name && name != "" {
			return d, nil
		}
		if _, below := cutBase(msg.path, d.path); below {
			at = d // no path is another's beginning
		}
	}
	switch {
	case name != "":
		return nil, usage(cmd, "there is no connection %s: there is %s", shown(name), strings.Join(names, ", "))
	case len(doors) == 1:
		return doors[0], nil
	case at != nil:
		return at, nil
	}
	return nil, usage(cmd, "there are several connections: name one with --connection (%s)", strings.Join(names, ", "))
}

// cutBase takes the base path off a path; a path that does not begin with it is taken to lie below it.
func cutBase(path, base string) (rest string, below bool) {
	if rest, ok := strings.CutPrefix(path, base); ok && (rest == "" || rest[0] == '/') {
		return rest, true
	}
	return path, false
}

// explanation is what explain prints, in its JSON form.
type explanation struct {
	Connection string      `json:"connection,omitempty"`
	Profile    string      `json:"profile"`
	Upstream   string      `json:"upstream"`
	Received   received    `json:"received"`
	Reshaped   []reshaped  `json:"reshaped,omitempty"`
	Findings   []finding   `json:"findings,omitempty"`
	Refused    *refusal    `json:"refused,omitempty"` // absent: it would be sent
	Plan       *planned    `json:"plan,omitempty"`
	Requests   []forwarded `json:"requests,omitempty"` // in order
	Note       string      `json:"note"`
}

type received struct {
	Method       string  `json:"method"`
	Path         string  `json:"path"` // below the base path, with the query
	Op           string  `json:"op,omitempty"`
	ResourceType string  `json:"resourceType,omitempty"`
	Values       []value `json:"values,omitempty"`
}

// value is one value of the request, or one operation of a PATCH.
type value struct {
	Op    string `json:"op,omitempty"`
	Path  string `json:"path,omitempty"`
	Value any    `json:"value,omitempty"`
}

type reshaped struct {
	Path string `json:"path,omitempty"`
	What string `json:"what"`
}

type finding struct {
	Rule    string `json:"rule"`
	Verdict string `json:"verdict"`
	Path    string `json:"path,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

type refusal struct {
	Status   int    `json:"status"`
	ScimType string `json:"scimType,omitempty"`
	Detail   string `json:"detail"`
}

type planned struct {
	How      string `json:"how"`
	Why      string `json:"why"`
	Pushed   string `json:"pushed,omitempty"`   // filter that the upstream evaluates
	Residual string `json:"residual,omitempty"` // filter that the gateway evaluates
	Sort     string `json:"sort,omitempty"`     // attribute that the gateway sorts by
}

// forwarded is one request to the upstream.
type forwarded struct {
	Why    string            `json:"why,omitempty"` // where it is not the plan itself
	Method string            `json:"method"`
	URL    string            `json:"url"`
	Header map[string]string `json:"header,omitempty"` // what depends on the request
	Body   map[string]any    `json:"body,omitempty"`
	// Operations are applied to what was read, which makes the body.
	Operations []value `json:"operations,omitempty"`
}

const explainNote = "Aliases, externalIds and kept attributes of existing users are not known here: explain looks nothing up."

// explain goes the way of a message. The error is a fault of this program or of the profile, never a refusal.
func (d *door) explain(ctx context.Context, msg *message) (*explanation, error) {
	path, _ := cutBase(msg.path, d.path)
	e := &explanation{Connection: d.name, Profile: d.profile.Name, Upstream: d.upstream, Note: explainNote}
	e.Received = received{Method: msg.method, Path: cmp.Or(path, "/")}
	if msg.query != "" {
		e.Received.Path += "?" + msg.query
	}
	req, err := scim.ReadRequest(msg.http(), path, []*scim.ResourceType{scim.UserType(), scim.GroupType()}, d.maxBody)
	if err != nil {
		return e, e.refuse(err)
	}
	e.Received.Op = string(req.Op)
	if req.Op == scim.OpDiscover || req.Op == scim.OpOptions {
		e.Plan = &planned{How: string(transform.Local), Why: "the gateway answers discovery itself"}
		return e, nil
	}
	if req.Op == scim.OpBulk {
		return e, &usageError{errors.New("this is a bulk request: explain its operations one by one")}
	}
	if req.Type == nil {
		return e, d.atTheRoot(ctx, e, req)
	}
	e.Received.ResourceType = req.Type.Name
	e.Received.Values = receivedValues(req)
	x, err := gateway.Explain(d.profile, req)
	if x == nil {
		return e, e.refuse(err)
	}
	e.note(x)
	if len(x.Findings) > 0 { // it came as far as the rules
		if e.Requests, err = d.readFirst(ctx, req); err != nil {
			return e, err
		}
	}
	if x.Refusal != nil {
		return e, e.refuse(x.Refusal)
	}
	e.Plan = describePlan(x.Plan)
	requests, err := d.requests(ctx, req, x.Plan)
	e.Requests = append(e.Requests, requests...)
	return e, err
}

// note takes over what was found on the way.
func (e *explanation) note(x *gateway.Explanation) {
	for _, n := range x.Notes {
		e.Reshaped = append(e.Reshaped, reshaped{n.Path, n.What})
	}
	for _, f := range x.Findings {
		e.Findings = append(e.Findings, finding{f.Rule, string(f.Verdict), f.Path, f.Reason})
	}
}

// atTheRoot goes the way of a query at the root: that of its parts, one after the other.
func (d *door) atTheRoot(ctx context.Context, e *explanation, req *scim.Request) error {
	why := "at the root, where no resource type can match"
	for i, part := range req.Parts {
		x, err := gateway.Explain(d.profile, part)
		if x == nil {
			return e.refuse(err)
		}
		if e.note(x); x.Refusal != nil {
			return e.refuse(x.Refusal)
		}
		requests, err := d.requests(ctx, part, x.Plan)
		if err != nil {
			return err
		}
		e.Requests = append(e.Requests, requests...)
		if i == 0 {
			why = "at the root"
		}
		why += "; " + part.Type.Name + ": " + x.Plan.Why
	}
	e.Plan = &planned{How: string(transform.Scan), Why: why, Residual: scim.FormatFilter(req.Query.Filter)}
	return nil
}

// refuse notes a refusal. It returns err itself when that is none.
func (e *explanation) refuse(err error) error {
	refused, ok := errors.AsType[*scim.Error](err)
	if !ok {
		return err
	}
	e.Refused = &refusal{refused.Status, refused.Type, refused.Detail}
	return nil
}

func receivedValues(req *scim.Request) []value {
	list := operations(req.Operations)
	if req.Resource != nil {
		for w := range req.Type.Values(req.Resource) {
			list = append(list, value{"", w.Path, masked(w.Path, w.Value)})
		}
	}
	return list
}

func describePlan(p *transform.Plan) *planned {
	out := &planned{How: string(p.How), Why: p.Why, Pushed: scim.FormatFilter(p.Pushed), Residual: scim.FormatFilter(p.Residual)}
	if p.Sort != nil {
		out.Sort = p.Sort.String()
	}
	return out
}

// readFirst is the request that the gateway sends before it decides, if it has to see the resource as it is.
func (d *door) readFirst(ctx context.Context, req *scim.Request) ([]forwarded, error) {
	normal, _, err := transform.Normalize(req)
	if err != nil {
		return nil, err
	}
	rules, err := policy.New(d.profile)
	if err != nil {
		return nil, err
	}
	compares := !d.profile.ETag && req.Preconditions.IfMatch != "" && req.ID != "" && req.Op.Writes()
	if !compares && !rules.NeedsCurrent(normal) {
		return nil, nil
	}
	f, err := d.get(ctx, req, req.ID, "first, because a rule or If-Match has to see the resource as it is")
	return []forwarded{f}, err
}

// requests are what a plan sends, in order, as far as it does not depend on the upstream's answers.
func (d *door) requests(ctx context.Context, req *scim.Request, plan *transform.Plan) ([]forwarded, error) {
	switch plan.How {
	case transform.Local:
		return nil, nil
	case transform.ReadWrite:
		read, err := d.get(ctx, req, req.ID, "read")
		if err != nil {
			return nil, err
		}
		write, err := d.forward(ctx, &scim.Request{Op: scim.OpReplace, Type: req.Type, ID: req.ID}, "write what was read, with these operations applied")
		write.Body, write.Operations = nil, operations(plan.Requests[0].Operations)
		return []forwarded{read, write}, err
	case transform.Candidate:
		ids, why := plan.IDs, ""
		if len(ids) == 0 {
			ids, why = []string{anyID}, "for each user that the identity map has under this value"
		}
		var list []forwarded
		for _, id := range ids {
			f, err := d.get(ctx, req, id, why)
			if err != nil {
				return nil, err
			}
			list = append(list, f)
		}
		return list, nil
	case transform.Scan:
		f, err := d.forward(ctx, plan.Requests[0], "and so on, page by page")
		return []forwarded{f}, err
	}
	var list []forwarded
	for i, r := range plan.Requests {
		if i == 0 && d.profile.ETag {
			r.Preconditions = req.Preconditions
		}
		f, err := d.forward(ctx, r, "")
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

func (d *door) get(ctx context.Context, req *scim.Request, id, why string) (forwarded, error) {
	return d.forward(ctx, &scim.Request{Op: scim.OpGet, Type: req.Type, ID: id, Query: scim.Query{StartIndex: 1}}, why)
}

// operations are the operations of a PATCH, without passwords.
func operations(ops []scim.PatchOp) []value {
	var list []value
	for _, op := range ops {
		path := scim.FormatPath(op.Path)
		list = append(list, value{op.Op, path, masked(path, op.Value)})
	}
	return list
}

// forward makes the HTTP form of one request.
func (d *door) forward(ctx context.Context, req *scim.Request, why string) (forwarded, error) {
	if r := d.profile.Resource(req.Type.Name); r != nil {
		local, rt := *req, *req.Type
		rt.Endpoint = r.Endpoint
		local.Type = &rt
		req = &local
	}
	hr, err := scim.NewHTTPRequest(ctx, d.upstream, d.profile.ContentType, req)
	if err != nil {
		return forwarded{}, err
	}
	f := forwarded{Why: why, Method: hr.Method, URL: strings.Replace(hr.URL.String(), anyIDEscaped, anyID, 1), Header: map[string]string{}}
	for _, name := range []string{"Content-Type", "If-Match", "If-None-Match"} {
		if v := hr.Header.Get(name); v != "" {
			f.Header[name] = v
		}
	}
	if hr.Body != nil && hr.Body != http.NoBody {
		body, err := io.ReadAll(hr.Body)
		if err != nil {
			return f, fmt.Errorf("show the body: %w", err)
		}
		object, err := scim.DecodeObject(body)
		if err != nil {
			return f, fmt.Errorf("show the body: %w", err)
		}
		f.Body = maskedObject(object)
	}
	return f, nil
}
