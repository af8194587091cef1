package config

import (
	"regexp"
	"slices"
	"strings"

	"scimgate/config/profile"
)

// Privacy says how attribute values stand in the trail. Without a word about it, userName, id, externalId, active and
// schemas are public: in the clear. Password is secret: never kept. Everything else is sensitive: kept as a keyed hash and,
// with Seal, encrypted under a key of the person.
type Privacy struct {
	// Public are paths of further attributes that stand in the trail in the clear: title, name.givenName,
	// urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department. A path covers the sub-attributes and all
	// values. Up to 256. Default: none.
	Public []string
	// Secret are paths of further attributes of which not even a hash is kept. Up to 256. Default: none.
	Secret []string
	// Seal keeps sensitive values encrypted, for those who hold the master key. Default: true.
	Seal bool
}

// mostPaths bounds Public and Secret.
const mostPaths = 256

func (p *Privacy) read(v profile.Value) {
	var public []profile.Value
	v.Fields(profile.Fields{
		"public": func(v profile.Value) { public = v.List(0, mostPaths) },
		"secret": func(v profile.Value) {
			for _, one := range v.List(0, mostPaths) {
				p.Secret = append(p.Secret, attributePath(one))
			}
		},
		"seal": func(v profile.Value) { p.Seal = v.Bool() },
	})
	for _, one := range public {
		path := attributePath(one)
		if slices.ContainsFunc(p.Secret, func(other string) bool { return strings.EqualFold(other, path) }) && path != "" {
			one.Problemf("%s is secret as well: take it out of one of the lists", path)
		}
		p.Public = append(p.Public, path)
	}
}

// attributeForm is an attribute path without a value filter, alone or behind a schema's URN.
var attributeForm = regexp.MustCompile(`^(urn:[A-Za-z0-9:._-]+:)?[A-Za-z$][A-Za-z0-9_$-]*(\.[A-Za-z$][A-Za-z0-9_$-]*)?$`)

// attributePath reads the path of an attribute whose class may be chosen.
func attributePath(v profile.Value) string {
	path := v.Text()
	if path == "" {
		return ""
	}
	name := strings.ToLower(path)
	if i := strings.LastIndexByte(name, ':'); i >= 0 && strings.HasPrefix(name, "urn:ietf:params:scim:schemas:core:2.0:") {
		name = name[i+1:]
	}
	top, _, _ := strings.Cut(name, ".")
	switch {
	case !attributeForm.MatchString(path):
		v.Problemf("want an attribute path such as title, name.givenName or URN:department, got %s", profile.Quote(path))
	case slices.Contains([]string{"username", "id", "externalid", "active", "schemas"}, top):
		v.Problemf("%s is always in the clear, because the trail is searched by it: take it out", path)
	case top == "password":
		v.Problemf("password is always secret: take it out")
	default:
		return path
	}
	return ""
}
