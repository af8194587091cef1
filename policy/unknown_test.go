package policy_test

import (
	"fmt"
	"strings"
	"testing"
)

// Names that no schema has are left out, up to a number that no mapping has.
func TestManyUnknownNames(t *testing.T) {
	p := rules(t, "generic")
	for n, refused := range map[int]bool{500: false, 501: true} {
		var body strings.Builder
		for i := range n {
			fmt.Fprintf(&body, `,"x%d":1`, i)
		}
		d := p.Check(read(t, `POST /Users {"userName":"ada"`+body.String()+`}`), nil)
		if refusal := d.Refusal(); (refusal != nil) != refused || refused && (refusal.Status != 413 || len(d.Findings) != 1) {
			t.Errorf("%d names: got %v and %d findings", n, refusal, len(d.Findings))
		}
	}
}
