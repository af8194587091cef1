package conformance

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// created remembers what a case made, so that it can be deleted.
type created struct {
	endpoint *endpoint
	paths    []string   // below the endpoint's URL, in the order of their creation
	lost     []*request // which may have created something, but had no answer
}

// note looks at a request and its answer, which is nil if there was none.
func (c *created) note(r *request, a *answer) {
	if a == nil {
		if r.method == http.MethodPost && !strings.Contains(r.target, ".search") {
			c.lost = append(c.lost, r)
		}
		return
	}
	if a.status >= 300 {
		return
	}
	switch r.method {
	case http.MethodPost, http.MethodPut: // PUT must not create (RFC 7644, Section 3.3), but may
		c.made(r, a)
	case http.MethodDelete:
		path := strings.TrimRight(c.endpoint.path(r.target), "/")
		c.paths = slices.DeleteFunc(c.paths, func(p string) bool { return p == path })
	}
}

func (c *created) made(r *request, a *answer) {
	body, _ := a.json()
	if operations, ok := find(body, "Operations"); ok {
		list, _ := operations.([]any)
		for _, o := range list {
			if status, _ := find(o, "status"); asText(status) == "201" {
				location, _ := find(o, "location")
				c.add(asText(location))
			}
		}
		return
	}
	// Where 200 stands for 201, only what has the name that was sent is surely ours.
	if a.status != http.StatusCreated && (r.method == http.MethodPut || !sameName(r.body, body)) {
		return
	}
	// The id says more than a Location, which may be wrong.
	collection, _, _ := strings.Cut(c.endpoint.path(r.target), "?")
	id, _ := find(body, "id")
	if s, ok := id.(string); ok && s != "" && r.method == http.MethodPost {
		c.add(strings.TrimRight(collection, "/") + "/" + url.PathEscape(s))
		return
	}
	c.add(a.header.Get("Location"))
}

// sameName reports whether a resource has the userName or displayName that was sent.
func sameName(sent string, resource any) bool {
	body, err := parseJSON(sent)
	if err != nil {
		return false
	}
	for _, attribute := range []string{"userName", "displayName"} {
		if name, ok := find(body, attribute); ok {
			got, _ := find(resource, attribute)
			return name != "" && equal(got, name)
		}
	}
	return false
}

func (c *created) add(location string) {
	path := strings.TrimRight(c.endpoint.path(location), "/")
	if strings.Count(path, "/") >= 2 && !slices.Contains(c.paths, path) {
		c.paths = append(c.paths, path)
	}
}

// remove deletes everything, last first: a group before its members. It returns what is left behind and why.
func (c *created) remove(ctx context.Context) (left []string) {
	paths := c.paths
	for _, r := range c.lost {
		found, err := c.find(ctx, r)
		if err != nil {
			left = append(left, fmt.Sprintf("%s %s had no answer, and what it may have made was not found: %v", r.method, c.endpoint.redact(r.target), err))
		}
		paths = append(paths, found...)
	}
	for _, path := range slices.Backward(paths) {
		if ctx.Err() != nil {
			left = append(left, path+": no time was left to delete it")
			continue
		}
		a, _, err := c.endpoint.do(ctx, &request{method: http.MethodDelete, target: path})
		switch {
		case err != nil:
			left = append(left, path+": "+err.Error())
		case a.status >= 300 && a.status != http.StatusNotFound && a.status != http.StatusGone:
			left = append(left, fmt.Sprintf("%s: DELETE is answered %d", path, a.status))
		}
	}
	return left
}

// find looks for what a request that had no answer may have made, by the unique name in it.
func (c *created) find(ctx context.Context, r *request) (paths []string, err error) {
	body, err := parseJSON(r.body)
	if err != nil {
		return nil, nil // nobody makes a resource of that
	}
	attribute := "userName"
	name, ok := find(body, attribute)
	if !ok {
		attribute = "displayName"
		name, _ = find(body, attribute)
	}
	text, ok := name.(string)
	if !ok || text == "" {
		return nil, nil
	}
	collection, _, _ := strings.Cut(r.target, "?")
	a, _, err := c.endpoint.do(ctx, &request{
		method: http.MethodGet,
		target: collection + "?filter=" + url.QueryEscape(attribute+" eq "+compact(text)),
	})
	if err != nil {
		return nil, err
	}
	answered, err := a.json()
	if err != nil || a.status != http.StatusOK {
		return nil, fmt.Errorf("the query for it is answered %d", a.status)
	}
	list, _ := resources(answered)
	for _, v := range list {
		id, _ := find(v, "id")
		if got, _ := find(v, attribute); equal(got, text) && asText(id) != "" {
			paths = append(paths, strings.TrimRight(c.endpoint.path(collection), "/")+"/"+url.PathEscape(asText(id)))
		}
	}
	return paths, nil
}
