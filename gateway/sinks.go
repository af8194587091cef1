package gateway

import (
	"context"
	"net/http"
	"time"

	"scimgate/transform/scim"
)

// sinksReady is an error while a required sink takes nothing: then nothing is begun that it would have to be told of.
// Discovery is answered all the same, because nothing leaves for it.
func (g *Gateway) sinksReady() error {
	if g.Feeds == nil {
		return nil
	}
	if err := g.Feeds.Ready(); err != nil {
		return sinkDown(err)
	}
	return nil
}

// sinksTook waits, while ctx lasts, until every required sink has an intent. Nothing leaves without it; the intent is
// closed as abandoned then.
func (g *Gateway) sinksTook(ctx context.Context, seq int64) error {
	if g.Feeds == nil {
		return nil
	}
	if err := g.Feeds.Taken(ctx, seq); err != nil {
		return sinkDown(err)
	}
	return nil
}

func sinkDown(err error) *scim.Error {
	e := scim.Errorf(http.StatusServiceUnavailable, "", "the audit trail does not reach a place that it must reach, and without it nothing is done: try again later")
	e.RetryAfter, e.Err = 5*time.Second, err
	return e
}
