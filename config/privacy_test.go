package config

import (
	"slices"
	"testing"
)

func TestPrivacy(t *testing.T) {
	dir := folder(t)
	if c := parse(t, dir, connection); !c.Privacy.Seal || len(c.Privacy.Public)+len(c.Privacy.Secret) > 0 {
		t.Errorf("without a word: got %+v", c.Privacy)
	}
	c := parse(t, dir, connection+`privacy:
  public: [title, name.givenName, "urn:example:ext:2.0:User:cost-center"]
  secret: [nickName]
  seal: false
`)
	if c.Privacy.Seal || !slices.Equal(c.Privacy.Public, []string{"title", "name.givenName", "urn:example:ext:2.0:User:cost-center"}) || !slices.Equal(c.Privacy.Secret, []string{"nickName"}) {
		t.Errorf("got %+v", c.Privacy)
	}
}
