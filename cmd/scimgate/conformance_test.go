package main

import (
	"net/http/httptest"

	"github.com/rogpeppe/go-internal/testscript"

	"scimgate/config/profile"
	"scimgate/conformance/simulator"
)

// upstreamURL starts a simulated upstream, which takes the token upstream-token-1234, until the script ends, and returns its base URL.
func upstreamURL(ts *testscript.TestScript, name string) string {
	p, err := profile.Load(name)
	ts.Check(err)
	sim, err := simulator.New(simulator.Config{Profile: p, Tokens: []string{"upstream-token-1234"}})
	ts.Check(err)
	server := httptest.NewServer(sim)
	ts.Defer(func() {
		server.Close()
		sim.Close()
	})
	return server.URL + simulator.DefaultBasePath
}
