package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scimgate/gateway/audit"
)

// A trail whose beginning was pruned is verified, as it is stored and as an export; one whose beginning was removed
// otherwise is not.
func TestVerifyPruned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, Config{Path: path})
	oldTrail(t, s, 700)
	sign(t, s)
	oldTrail(t, s, 600)
	key := sign(t, s)
	p, err := s.Prunable(t.Context(), time.Now(), false)
	if err != nil || p.Last != 1280 || p.Held != "record 1281 is among the last that are signed" {
		t.Fatalf("got %+v, %v", p, err)
	}
	if p, err = s.Prunable(t.Context(), minute(690), false); err != nil || p.Last != 512 {
		t.Fatalf("got %+v, %v", p, err)
	}
	proof, err := audit.Prove(t.Context(), &s.Reader, 5)
	if err != nil {
		t.Fatal(err)
	}
	signer, _ := testSigner(t, s)
	if err := s.Prune(t.Context(), Pruning{Before: minute(690), By: "somebody", Signer: signer}, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, path, key); err == nil || !strings.Contains(err.Error(), "record 1301, which says that they were pruned, is not signed yet") {
		t.Errorf("before the event is signed: got %v", err)
	}
	sign(t, s)
	if _, err := audit.Prove(t.Context(), &s.Reader, 5); err == nil || !strings.HasPrefix(err.Error(), "record 5 is not there any more, the first that is left is 513") {
		t.Errorf("the proof of a record that was pruned: got %v", err)
	}
	if text, err := proof.Encode(); err != nil {
		t.Fatal(err)
	} else if _, _, err := audit.VerifyProof(text, key); err != nil {
		t.Errorf("a proof made before: got %v", err)
	}
	export := func() (*audit.Summary, error) {
		t.Helper()
		var file bytes.Buffer
		if _, err := audit.Export(t.Context(), &s.Reader, 1301, &file, func(int64) {}); err != nil {
			t.Fatal(err)
		}
		return (&audit.Verification{Key: key}).Export(t.Context(), &file)
	}
	notes, err := s.Checkpoints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range [][]string{nil, notes[:1]} { // also one that ends among the records that are gone
		if sum, err := verify(t, path, key, kept...); err != nil || sum.Records != 1301 || sum.Pruned != 512 || sum.Signed != 1301 {
			t.Errorf("got %+v and %v, want 1301 records of which 512 were pruned", sum, err)
		}
	}
	if sum, err := export(); err != nil || sum.Records != 1301 || sum.Pruned != 512 {
		t.Errorf("the export: got %+v and %v, want 1301 records of which 512 were pruned", sum, err)
	}
	c, err := dial(dsn(path, modeReadWrite))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, tt := range []struct{ change, undo, want string }{
		{"DELETE FROM trail WHERE seq <= 600", "", "record 1 is missing: the first is record 601"},
		{"DELETE FROM trail WHERE seq <= 768", "", "the records 1 to 768 are missing, and no record says that they were pruned"},
	} {
		if err := c.exec(tt.change); err != nil {
			t.Fatal(err)
		}
		for name, check := range map[string]func() (*audit.Summary, error){"stored": func() (*audit.Summary, error) { return verify(t, path, key) }, "export": export} {
			if name == "export" && !strings.Contains(tt.want, "768") {
				continue
			}
			_, err := check()
			if _, ok := errors.AsType[*audit.Tampered](err); !ok || err.Error() != tt.want {
				t.Errorf("%s, %s: got %v, want %s", tt.change, name, err, tt.want)
			}
		}
	}
	if err := c.exec("UPDATE trail_tiles SET hashes = zeroblob(LENGTH(hashes)) WHERE level = 0 AND n = 0"); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, path, key); err == nil || !strings.Contains(err.Error(), "one of the records 1 to 700 is not the one that") {
		t.Errorf("the hashes of records that are gone: got %v", err)
	}
}

// Whoever can write the database, and has not the trail's key, cannot explain what he removed: not with a record of his
// own, which the gateway signs with all others, nor with one that explains less.
func TestForgedPruning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, Config{Path: path})
	oldTrail(t, s, 2000)
	key := sign(t, s)
	signer, _ := testSigner(t, s)
	if err := s.Prune(t.Context(), Pruning{Before: minute(600), By: "somebody", Signer: signer}, func(int64) {}); err != nil { // 1 to 512
		t.Fatal(err)
	}
	real, err := s.Get(t.Context(), 2001)
	if err != nil || !key.OpenPruned(real.Pruned) {
		t.Fatalf("got %+v, %v, want a signed record", real, err)
	}
	other, err := audit.LoadOrCreateSigner(filepath.Join(t.TempDir(), "other"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(dsn(path, modeReadWrite))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sign(t, s)
	if _, err := verify(t, path, key); err != nil {
		t.Fatal(err)
	}
	if err := c.exec("DELETE FROM trail WHERE seq <= 1024"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		forged *audit.Pruned
		want   string
	}{
		{"no record", nil, "the records 1 to 1024 are missing, and no record says that they were pruned"},
		{"unsigned", &audit.Pruned{First: 513, Last: 1024, Before: minute(1100)}, "has no signature of the trail's key"},
		{"the signature of another", &audit.Pruned{First: 1, Last: 1024, Before: real.Pruned.Before, Signature: real.Pruned.Signature}, "has no signature of the trail's key"},
		{"another time", &audit.Pruned{First: 1, Last: 1024, Before: minute(1100), Signature: "x\n\n— y"}, "has no signature of the trail's key"},
		{"another key", signPruned(t, other, audit.Pruned{First: 1, Last: 1024}), "has no signature of the trail's key"},
		{"too little", signPruned(t, signer, audit.Pruned{First: 1, Last: 768}), "has no signature of the trail's key"},
		{"the trail's key", signPruned(t, signer, audit.Pruned{First: 1, Last: 1024, Before: minute(1100)}), ""},
	} {
		if tt.forged != nil {
			mustAppend(t, s, &audit.Record{Kind: audit.Event, Action: audit.Removed, Pruned: tt.forged})
			sign(t, s)
		}
		_, err := verify(t, path, key)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func signPruned(t *testing.T, signer *audit.Signer, p audit.Pruned) *audit.Pruned {
	t.Helper()
	if err := signer.SignPruned(&p); err != nil {
		t.Fatal(err)
	}
	return &p
}

// A trail that is pruned while it is read is not called a changed one.
func TestVerifyWhilePruned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, Config{Path: path})
	oldTrail(t, s, 33_600) // twice what is read at once, and some more
	key := sign(t, s)
	signer, _ := testSigner(t, s)
	for _, tt := range []struct {
		name   string
		before int
		read   func(audit.TrailReader) error
	}{
		{"verify", 16_700, func(r audit.TrailReader) error {
			_, err := (&audit.Verification{Key: key}).Trail(t.Context(), r)
			return err
		}},
		{"export", 33_300, func(r audit.TrailReader) error {
			_, err := audit.Export(t.Context(), r, 1<<40, io.Discard, func(int64) {})
			return err
		}},
	} {
		reader := &pruning{Reader: &s.Reader, prune: func() error {
			err := s.Prune(t.Context(), Pruning{Before: minute(tt.before), By: "somebody", Signer: signer}, func(int64) {})
			sign(t, s)
			return err
		}}
		if err := tt.read(reader); err == nil || err.Error() != "records were pruned while the trail was read: do it again" {
			t.Errorf("%s: got %v", tt.name, err)
		}
		if err := tt.read(&s.Reader); err != nil {
			t.Errorf("%s again: got %v", tt.name, err)
		}
	}
}

// A pruning that is interrupted leaves a trail that verifies, and the next one goes on.
func TestInterruptedPruning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, Config{Path: path})
	oldTrail(t, s, 6000)
	key := sign(t, s)
	signer, _ := testSigner(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	what := Pruning{Before: minute(5000), By: "somebody", Signer: signer}
	err := s.Prune(ctx, what, func(last int64) {
		if last >= 1024 {
			cancel()
		}
	})
	if !errors.Is(err, ErrNotDurable) {
		t.Fatalf("got %v, want it interrupted", err)
	}
	sign(t, s)
	sum, err := verify(t, path, key)
	if err != nil || sum.Pruned < 1024 || sum.Pruned >= 4864 {
		t.Errorf("got %+v and %v, want a part of the records pruned", sum, err)
	}
	if err := s.Prune(t.Context(), what, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	sign(t, s)
	if sum, err := verify(t, path, key); err != nil || sum.Pruned != 4864 {
		t.Errorf("got %+v and %v, want 4864 records pruned", sum, err)
	}
}

// pruning is a reader that has a trail pruned after the first records were read.
type pruning struct {
	*Reader
	prune func() error
}

func (p *pruning) Records(ctx context.Context, after int64, limit int, each func(int64, []byte) error) error {
	err := p.Reader.Records(ctx, after, limit, each)
	if p.prune != nil && err == nil {
		err, p.prune = p.prune(), nil
	}
	return err
}
