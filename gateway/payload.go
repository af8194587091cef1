package gateway

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"fmt"
	"maps"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
	"scimgate/gateway/store"
	"scimgate/transform"
	"scimgate/transform/scim"
)

// payload is what reconciliation needs of an intent: the upstream request, and what the gateway holds once it is
// done. It has attribute values in full, all but passwords. So it is encrypted under the trail's key: what SQLite
// leaves of it in its write-ahead log after the outcome is of no use.
type payload struct {
	Op         scim.Op         `json:"op"`
	Resource   scim.Resource   `json:"resource,omitempty"`
	Operations []payloadOp     `json:"operations,omitempty"`
	Held       *identity.Entry `json:"held,omitempty"`   // without its id when that is not known yet
	Hidden     bool            `json:"hidden,omitempty"` // a password was to be changed as well
}

type payloadOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// newSeals make what encrypts for a purpose, and behind it what did before each rotation of the trail's key.
func newSeals(r *audit.Redactor, purpose string) (seals []cipher.AEAD, err error) {
	for _, key := range r.Keys(purpose) {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("encrypt %s: %w", purpose, err)
		}
		seal, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("encrypt %s: %w", purpose, err)
		}
		seals = append(seals, seal)
	}
	return seals, nil
}

// writeDown makes the payload of an intent to send requests, after which the gateway holds next. It writes by hand what
// json.Marshal would: this is on the path of every write.
func (g *Gateway) writeDown(requests []*scim.Request, next *transform.Held, requestID string) ([]byte, error) {
	first := requests[0]
	body := scim.AppendJSON(append(make([]byte, 0, 1024), `{"op":`...), string(first.Op))
	hidden := false
	if first.Resource != nil {
		shown := first.Resource
		for name := range first.Resource {
			if isSecret(first.Type, scim.Ref{Name: name}) {
				if !hidden {
					hidden, shown = true, maps.Clone(first.Resource)
				}
				delete(shown, name)
			}
		}
		body = scim.AppendJSON(append(body, `,"resource":`...), shown)
	}
	more := `,"operations":[`
	for _, r := range requests {
		for _, op := range r.Operations {
			if isSecret(r.Type, op.Target.Ref) {
				hidden = true
				continue
			}
			body = scim.AppendJSON(append(append(body, more...), `{"op":`...), op.Op)
			body = scim.AppendJSON(append(body, `,"path":`...), scim.FormatPath(op.Path))
			body = append(scim.AppendJSON(append(body, `,"value":`...), op.Value), '}')
			more = ","
		}
	}
	if more == "," {
		body = append(body, ']')
	}
	if hidden {
		body = append(body, `,"hidden":true`...)
	}
	if next != nil {
		held, err := json.Marshal(g.remember(first.Type, next).Put)
		if err != nil {
			return nil, fmt.Errorf("write down the intent: %w", err)
		}
		body = append(append(body, `,"held":`...), held...)
	}
	return g.seal.Seal(nil, nil, append(body, '}'), []byte(requestID)), nil
}

// isSecret reports whether nobody may ever read an attribute again (RFC 7643, Section 7: returned "never").
func isSecret(rt *scim.ResourceType, ref scim.Ref) bool {
	t, ok := rt.Lookup(ref)
	return ok && t.Leaf().Returned == "never"
}

// restore makes the upstream request again from what was written down with the intent.
func (g *Gateway) restore(o store.OpenIntent) (*scim.Request, *payload, error) {
	body, err := g.seal.Open(nil, nil, o.Payload, []byte(o.RequestID))
	for i := 0; err != nil && i < len(g.sealedBy); i++ {
		body, err = g.sealedBy[i].Open(nil, nil, o.Payload, []byte(o.RequestID))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("decrypt the intent: is this the key file that it was written under? %w", err)
	}
	var p payload
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber() // as scim has numbers
	if err := d.Decode(&p); err != nil {
		return nil, nil, fmt.Errorf("read the intent: %w", err)
	}
	req := &scim.Request{
		Op: p.Op, ID: o.ID, Resource: p.Resource, Query: scim.Query{StartIndex: 1},
		Origin: scim.Origin{Connection: g.Name, RequestID: o.RequestID},
	}
	for _, rt := range g.Types() {
		if rt.Name == o.ResourceType {
			req.Type = rt
		}
	}
	if req.Type == nil {
		return nil, nil, fmt.Errorf("read the intent: there is no resource type %q", o.ResourceType)
	}
	for _, op := range p.Operations {
		path, target, err := req.Type.CompilePath(op.Path)
		if err != nil {
			return nil, nil, fmt.Errorf("read the intent: %w", err)
		}
		req.Operations = append(req.Operations, scim.PatchOp{Op: op.Op, Path: path, Target: target, Value: op.Value})
	}
	return req, &p, nil
}
