package gateway

import (
	"cmp"
	"context"
	"fmt"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
	"scimgate/transform/scim"
)

// sealValues seals the sensitive values of a record under the key of the person that its exchange is about. A create has no id
// yet: its key is made for it, and becomes the person's with the outcome. What names nobody is not sealed, because nobody
// could ask for it to be erased. An error leaves the values as hashes alone.
func (g *Gateway) sealValues(ctx context.Context, x *exchange, rec *audit.Record) (err error) {
	if g.Sealer == nil || x.req.Type == nil || !audit.Sensitive(rec.Attributes) {
		return nil
	}
	if x.key == nil {
		switch id := cmp.Or(x.req.ID, x.made); {
		case id != "":
			x.key, err = g.Sealer.For(ctx, x.person(id))
		case rec.Subject == audit.Subject{}:
			return nil
		default:
			x.key, err = g.Sealer.New()
		}
		if err != nil {
			return fmt.Errorf("seal the values of a record: %w", err)
		}
	}
	x.key.Seal(rec)
	return nil
}

// sealed notes that the record which was sealed last is durable.
func (g *Gateway) sealed(x *exchange, rec *audit.Record) {
	if rec.Key != nil {
		g.Sealer.Stored(x.key)
	}
}

// belongs says whose the key of a create is, once the upstream has shown what it made.
func (x *exchange) belongs(r scim.Resource) {
	if x.req.Op != scim.OpCreate || r.ID() == "" {
		return
	}
	x.made = r.ID()
	if x.key != nil {
		x.key.Belongs(x.person(x.made))
	}
}

// person is the resource of an exchange with an id.
func (x *exchange) person(id string) audit.Person {
	return audit.Person{Upstream: x.g.UpstreamName, ResourceType: x.req.Type.Name, ID: id}
}

// sealedBefore takes up the key that an intent was sealed under.
func (g *Gateway) sealedBefore(ctx context.Context, x *exchange, o store.OpenIntent) error {
	if g.Sealer == nil || o.ID != "" {
		return nil
	}
	intent, err := g.Store.Get(ctx, o.Intent)
	if err != nil || intent.SealedKey == "" {
		return err
	}
	if x.key, err = g.Sealer.Named(ctx, intent.SealedKey); err != nil {
		x.key = nil // destroyed meanwhile, or not to be read: what is found gets one of its own
	}
	return nil
}
