package main

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"scimgate/config"
	"scimgate/config/profile"
	"scimgate/gateway/audit"
)

// privateWorld is a database with its keys, and a gateway that may run on it.
type privateWorld struct {
	t        *testing.T
	dir      string
	database string
}

func (p *privateWorld) config(privacy config.Privacy) *config.Config {
	p.t.Helper()
	generic, err := profile.Load("generic")
	if err != nil {
		p.t.Fatal(err)
	}
	return &config.Config{
		Listen: "127.0.0.1:0", Admin: config.Admin{Listen: "127.0.0.1:0"}, Simulate: generic, Database: p.database, KeyFile: p.database + ".key", Privacy: privacy,
		Limits: config.Limits{Body: config.DefaultBody, Concurrent: config.DefaultConcurrent, Wait: config.DefaultWait, DrainTimeout: config.DefaultDrainTimeout},
	}
}

// serve runs a gateway until the returned function is called.
func (p *privateWorld) serve(privacy config.Privacy) (create func(body string, target ...string), stop func()) {
	p.t.Helper()
	cfg := p.config(privacy)
	made, stopSimulator, err := embedSimulator(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	a, err := open(p.t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := a.start(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	create = func(body string, target ...string) { // or replace it, at a target
		p.t.Helper()
		method := "POST"
		if len(target) > 0 {
			method = "PUT"
		}
		req, err := http.NewRequestWithContext(p.t.Context(), method, a.tenantURL(0)+"/Users"+strings.Join(target, ""), strings.NewReader(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],`+body+`}`))
		if err != nil {
			p.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+made.secret)
		req.Header.Set("Content-Type", "application/scim+json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			p.t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil || res.StatusCode > http.StatusCreated {
			p.t.Fatalf("create: got %d, %v", res.StatusCode, err)
		}
	}
	return create, func() {
		p.t.Helper()
		if err := a.stop(); err != nil {
			p.t.Error(err)
		}
		stopSimulator()
	}
}

// call runs `scimgate audit` and looks for a text in what it prints. What is to fail begins with "!".
func (p *privateWorld) call(want string, args ...string) string {
	p.t.Helper()
	var out, errs bytes.Buffer
	args = append([]string{"audit"}, args...)
	code := run(p.t.Context(), append(args, "--database", p.database), strings.NewReader("Engineer\n"), &out, &errs, noEnv)
	text := out.String() + errs.String()
	want, fails := strings.CutPrefix(want, "!")
	if (code != exitOK) != fails || !regexp.MustCompile(want).MatchString(text) {
		p.t.Errorf("%s: got code %d and\n%s\nwant %q in it", strings.Join(args, " "), code, text, want)
	}
	return text
}

// What is sealed can be read by who has the master key, until it is erased: with a gateway on the database and without.
func TestSealedOnTheCommandLine(t *testing.T) {
	for _, running := range []bool{true, false} {
		dir := t.TempDir()
		p := &privateWorld{t: t, dir: dir, database: filepath.Join(dir, "trail.db")}
		create, stop := p.serve(config.Privacy{Seal: true})
		create(`"userName":"ann","externalId":"e-1","title":"Engineer"`)
		create(`"userName":"bob","title":"Nurse"`)
		if !running {
			stop()
		}
		if text := p.call(`title asked hmac:`, "show", "3"); strings.Contains(text, "Engineer") {
			t.Errorf("a value shows: %s", text)
		}
		p.call(`title asked "Engineer" sent "Engineer" confirmed "Engineer"`, "show", "3", "--unseal")
		p.call(`"asked":{"value":"Engineer","hmac":"[0-9a-f]{32}"}`, "show", "3", "--unseal", "--json")
		p.call(`event +unsealed +ann`, "tail")
		p.call("!record 1: the record has no sealed values", "show", "1", "--unseal")
		p.call("!record 4711: no such record", "show", "4711")
		p.call("!want the number of a record or its id", "show", "x")
		id := regexp.MustCompile(`#5 ([0-9a-f-]{36})`).FindStringSubmatch(p.call("#5", "show", "5"))
		p.call(`title asked "Nurse"`, "show", id[1], "--unseal")

		hash := strings.TrimSpace(p.call(`^[0-9a-f]{32}\n$`, "hash", "title", "-"))
		p.call(hash, "show", "3")
		p.call(`!in the trail it stands as "ann"`, "hash", "userName", "ann")
		p.call(`!it stands as \[secret\]`, "hash", "password", "x")
		p.call(`^[0-9a-f]{32}\n$`, "hash", "--json", "x", `{"a":1}`)
		p.call(`!VALUE is not JSON`, "hash", "--json", "x", `{"a":1`)

		p.call("!no key of nobody", "erase", "nobody", "--yes")
		p.call("(?s)known as ann\n    1 key; 2 records .*Nothing was changed", "erase", "E-1")
		p.call("!no key of ann", "erase", "ann", "--id", "4711", "--yes")
		p.call(`asked "Engineer"`, "show", "3", "--unseal")
		p.call("1 key destroyed", "erase", "ANN", "--yes")
		p.call("!gone for ever", "show", "3", "--unseal")
		p.call("!no key of ann", "erase", "ann", "--yes")
		p.call(`asked "Nurse"`, "show", "5", "--unseal")
		p.call(`event +erased +ANN`, "tail")
		if running {
			p.call("!stop it", "keys", "rotate", "master")
			id := regexp.MustCompile(`subject .* id (\S+) externalId e-1`).FindStringSubmatch(p.call("id", "show", "3"))[1]
			create(`"userName":"ann","title":"Doctor"`, "/"+id) // under a key that was not destroyed
			seq := regexp.MustCompile(`"seq":([0-9]+)`).FindAllStringSubmatch(p.call("", "search", "--user", id, "--json"), -1)
			p.call(`title asked "Doctor" sent "Doctor"`, "show", seq[len(seq)-1][1], "--unseal")
			stop()
		}
		if left, _ := filepath.Glob(filepath.Join(p.database+".errands", "*")); len(left) > 0 {
			t.Errorf("errands are left: %q", left)
		}
	}
}

func TestRotateKeys(t *testing.T) {
	dir := t.TempDir()
	p := &privateWorld{t: t, dir: dir, database: filepath.Join(dir, "trail.db")}
	create, stop := p.serve(config.Privacy{Seal: true})
	create(`"userName":"ann","title":"Engineer"`)
	stop()
	master, err := os.ReadFile(p.database + ".master-key")
	if err != nil {
		t.Fatal(err)
	}
	hash := p.call(`^[0-9a-f]{32}\n$`, "hash", "title", "Engineer")
	p.call("1 key wrapped under the new one", "keys", "rotate", "master")
	p.call("2 keys", "keys", "rotate", "hash")
	p.call("event +rotated", "tail")
	p.call(`title asked "Engineer"`, "show", "3", "--unseal")
	if now, err := os.ReadFile(p.database + ".master-key"); err != nil || bytes.Equal(now, master) || len(now) != len(master) {
		t.Errorf("the master key is %d bytes, %v, want another one of %d", len(now), err, len(master))
	}
	if both := p.call(`^[0-9a-f]{32}\n[0-9a-f]{32}\n$`, "hash", "title", "Engineer"); !strings.HasSuffix(both, "\n"+hash) {
		t.Errorf("got %q, want the hash of before last: %q", both, hash)
	}
	// A gateway goes on with the new keys, for the same person too.
	create, stop = p.serve(config.Privacy{Seal: true})
	create(`"userName":"bob","title":"Engineer"`)
	stop()
	tail := p.call("created +bob", "search", "--user", "bob", "--kind", "outcome", "-v")
	if both := p.call("", "hash", "title", "Engineer"); !strings.Contains(tail, both[:32]) {
		t.Errorf("the new key of hashes is not used: %s", tail)
	}
	if text := p.call("created +ann", "search", "--value", "title=Engineer", "--kind", "outcome"); strings.Count(text, "created") != 2 {
		t.Errorf("got %s, want what was hashed under either key", text)
	}
	p.call("no record matches", "search", "--value", "title=Nobody")
	p.call("!want PATH=VALUE", "search", "--value", "title")
	// The old master key does not help any more.
	if err := os.WriteFile(p.database+".master-key", master, 0o600); err != nil {
		t.Fatal(err)
	}
	p.call("!another master key", "show", "3", "--unseal")
	p.call("!another master key", "keys", "rotate", "master")
	if err := os.Remove(p.database + ".master-key"); err != nil {
		t.Fatal(err)
	}
	p.call("!no such file", "show", "3", "--unseal")
	p.call("!takes one argument, master or hash", "keys", "rotate", "both")
}

// A rotation that was killed, at whatever step, leaves keys that fit; a gateway may run in between, and the next rotation ends
// what was begun: no file has the old key any more.
func TestRotationInterrupted(t *testing.T) {
	for _, step := range []string{"while the file is written", "before the keys are wrapped anew", "after the keys were wrapped anew"} {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			p := &privateWorld{t: t, dir: dir, database: filepath.Join(dir, "trail.db")}
			file := p.database + ".master-key"
			create, stop := p.serve(config.Privacy{Seal: true})
			create(`"userName":"ann","title":"Engineer"`)
			stop()
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			both := append(bytes.Clone(old), bytes.Repeat([]byte{7}, audit.KeySize)...)
			switch step {
			case "while the file is written":
				err = os.WriteFile(file+".new-1", both[:40], 0o600)
			case "before the keys are wrapped anew":
				err = os.WriteFile(file, both, 0o600)
			default:
				p.call("1 key wrapped", "keys", "rotate", "master")
				var rotated []byte
				if rotated, err = os.ReadFile(file); err == nil {
					err = os.WriteFile(file, append(bytes.Clone(old), rotated...), 0o600)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			p.call(`title asked "Engineer"`, "show", "3", "--unseal")
			create, stop = p.serve(config.Privacy{Seal: true})
			create(`"userName":"bob","title":"Nurse"`)
			stop()
			p.call("2 keys wrapped under the new one", "keys", "rotate", "master")
			p.verifies()
			p.call(`title asked "Engineer"`, "show", "3", "--unseal")
			seq := regexp.MustCompile(`"seq":([0-9]+)`).FindStringSubmatch(p.call("", "search", "--user", "bob", "--kind", "outcome", "--json"))[1]
			p.call(`title asked "Nurse"`, "show", seq, "--unseal")
			names, err := filepath.Glob(file + "*")
			if err != nil || len(names) != 1 {
				t.Errorf("got the files %q, %v, want one", names, err)
			}
			if now, err := os.ReadFile(file); err != nil || len(now) != audit.KeySize || bytes.Equal(now, old) {
				t.Errorf("the file has %d bytes, %v, want one new key", len(now), err)
			}
		})
	}
}

// Without the master key of what is sealed a gateway does not begin another one: the volume may not be mounted.
func TestMasterKeyIsLost(t *testing.T) {
	dir := t.TempDir()
	p := &privateWorld{t: t, dir: dir, database: filepath.Join(dir, "trail.db")}
	create, stop := p.serve(config.Privacy{Seal: true})
	create(`"userName":"ann","title":"Engineer"`)
	stop()
	file := p.database + ".master-key"
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	_, err := open(t.Context(), p.config(config.Privacy{Seal: true}), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "restore the file from a backup") {
		t.Errorf("got %v, want an error that says what to do", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("another master key was made")
	}
	p.call("!open with the master key alone", "show", "3", "--unseal")
	// It is lost: the operator says so with a new one. The log names what others can read.
	if err := os.WriteFile(file, bytes.Repeat([]byte{7}, audit.KeySize), 0o644); err != nil {
		t.Fatal(err)
	}
	var logs bytes.Buffer
	a := &app{log: slog.New(slog.NewTextHandler(&logs, nil))}
	if a.warnReadable(p.database+".key", file); strings.Count(logs.String(), "chmod 600") != 1 || !strings.Contains(logs.String(), "trail.db.master-key") {
		t.Errorf("got %s, want a word about the one file that others can read", logs.String())
	}
	create, stop = p.serve(config.Privacy{Seal: true})
	create(`"userName":"bob","title":"Nurse"`)
	stop()
	p.call("!another master key", "show", "3", "--unseal")
	seq := regexp.MustCompile(`"seq":([0-9]+)`).FindStringSubmatch(p.call("", "search", "--user", "bob", "--kind", "outcome", "--json"))[1]
	p.call(`title asked "Nurse"`, "show", seq, "--unseal")
	p.call("1 key destroyed", "erase", "ann", "--yes") // also without its master key
}

// Erasing changes no record: the trail verifies before, after, and after a restart, to its end, and the values are gone.
func TestEraseAndVerify(t *testing.T) {
	for _, running := range []bool{true, false} {
		dir := t.TempDir()
		p := &privateWorld{t: t, dir: dir, database: filepath.Join(dir, "trail.db")}
		create, stop := p.serve(config.Privacy{Seal: true})
		create(`"userName":"ann","title":"Engineer"`)
		stop()
		p.verifies()
		if running {
			create, stop = p.serve(config.Privacy{Seal: true})
			create(`"userName":"bob","title":"Nurse"`)
		}
		before := p.call("", "show", "3", "--json")
		p.call("1 key destroyed", "erase", "ann", "--yes")
		p.call("!gone for ever", "show", "3", "--unseal")
		if after := p.call("", "show", "3", "--json"); after != before {
			t.Errorf("the record was changed: %s", after)
		}
		if running {
			stop()
		}
		p.verifies()
		_, stop = p.serve(config.Privacy{Seal: true})
		stop()
		p.verifies()
		p.call("!gone for ever", "show", "3", "--unseal")
	}
}

// What root does for the gateway's user while no gateway runs leaves every file the gateway's.
func TestRootLeavesFilesTheirOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away; CI runs as root")
	}
	dir := t.TempDir()
	p := &privateWorld{t: t, dir: dir, database: filepath.Join(dir, "trail.db")}
	create, stop := p.serve(config.Privacy{Seal: true})
	create(`"userName":"ann","title":"Engineer"`)
	stop()
	const gatewayUser = 65532
	files := func(each func(path string) error) {
		t.Helper()
		if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error { return errors.Join(err, each(path)) }); err != nil {
			t.Fatal(err)
		}
	}
	files(func(path string) error { return os.Chown(path, gatewayUser, gatewayUser) })
	p.call(`title asked "Engineer"`, "show", "3", "--unseal")
	p.call("1 key wrapped", "keys", "rotate", "master")
	p.call("2 keys", "keys", "rotate", "hash")
	p.call("1 key destroyed", "erase", "ann", "--yes")
	p.verifies()
	files(func(path string) error {
		info, err := os.Stat(path)
		if err == nil {
			if uid, gid, _ := audit.Owner(info); uid != gatewayUser || gid != gatewayUser {
				t.Errorf("%s belongs to %d, %d now", filepath.Base(path), uid, gid)
			}
		}
		return err
	})
}

// verifies verifies the trail: what commands recorded is signed as well.
func (p *privateWorld) verifies() {
	p.t.Helper()
	if text := p.call(`records +[0-9]+,`, "verify"); strings.Contains(text, "not signed") || strings.Contains(text, "unsigned") {
		p.t.Errorf("got %s, want a trail that is signed to its end", text)
	}
}

// What the configuration says about privacy reaches the trail.
func TestPrivacyOfServe(t *testing.T) {
	dir := t.TempDir()
	p := &privateWorld{t: t, dir: dir, database: filepath.Join(dir, "trail.db")}
	create, stop := p.serve(config.Privacy{Public: []string{"title"}, Secret: []string{"nickName"}})
	create(`"userName":"ann","title":"Engineer","nickName":"Annie","displayName":"Ann"`)
	stop()
	text := p.call(`title asked "Engineer" sent "Engineer"`, "show", "3")
	if !strings.Contains(text, "nickName asked [secret]") || !strings.Contains(text, "displayName asked hmac:") {
		t.Errorf("got %s", text)
	}
	p.call("!no sealed values", "show", "3", "--unseal")
	if _, err := os.Stat(p.database + ".master-key"); err == nil {
		t.Error("a master key was made although nothing is sealed")
	}
}

// A path that no schema has is told, by `check` and at the start, because a secret may be unprotected.
func TestUnknownPaths(t *testing.T) {
	generic, err := profile.Load("generic")
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{Connections: []config.Connection{{Profile: generic}}, Privacy: config.Privacy{
		Public: []string{"title", "name.givenName", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department"}, Secret: []string{"nickName", "nickNmae"},
	}}
	if got := unknownPaths(cfg); len(got) != 1 || !strings.Contains(got[0], "nickNmae") {
		t.Errorf("got %q, want the one that is misspelled", got)
	}
}
