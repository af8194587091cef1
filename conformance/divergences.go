package conformance

import (
	"embed"
	"fmt"
)

//go:embed expected/simulator-bluejeans.json expected/gateway-bluejeans.json expected/gateway-generic.json
var divergences embed.FS

// Divergences returns what is known to fail or to be unsupported, by case id, at one of the service providers of this
// repository: "simulator-bluejeans", "gateway-bluejeans" or "gateway-generic". DIVERGENCES.md is the same for people.
func Divergences(name string) (map[string]string, error) {
	text, err := divergences.ReadFile("expected/" + name + ".json")
	if err != nil {
		return nil, fmt.Errorf("read the divergences of %s: %w", name, err)
	}
	expected, err := ParseExpected(string(text))
	if err != nil {
		return nil, fmt.Errorf("expected/%s.json: %w", name, err)
	}
	return expected, nil
}
