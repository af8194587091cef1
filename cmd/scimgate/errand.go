package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// errand is what a command wants to be written into a trail. A gateway that runs on the database is the only one that
// writes there; it does errands for others, who put them into a folder beside the database. Whoever may write into that
// folder, which is the gateway's alone, could as well change the database.
type errand struct {
	Record *audit.Record `json:"record"`          // an event
	Erase  []string      `json:"erase,omitempty"` // ids of keys to destroy with it
	// LeaveSinks removes also what a sink has not got, where records are removed.
	LeaveSinks bool `json:"leaveSinks,omitempty"`
}

const (
	errandEvery = 200 * time.Millisecond // how often a gateway looks for errands
	errandWait  = 20 * time.Second       // how long a command waits, and the age from which an errand is nobody's any more
	errandTry   = time.Second            // how long an errand lies there before the command looks whether a gateway runs at all
	errandSize  = 4 << 20
	logEvery    = 5 * time.Second // how often a gateway tries to empty the write-ahead log of what was destroyed
	asked       = ".asked"
	answered    = ".answered"
	unfinished  = ".new"
)

// errUnheeded says that nobody took an errand: nothing was done, and nothing will be.
var errUnheeded = errors.New("nobody took the errand")

// errandFolder is the folder for errands of a database, by whatever name that is called.
func errandFolder(database string) string {
	if real, err := filepath.EvalSymlinks(database); err == nil {
		database = real
	}
	return database + ".errands"
}

// run does the errand, with the trail's signer where it needs one. Of the record only what describes the event counts: not
// its time, its id or its place.
func (e *errand) run(ctx context.Context, s *store.Store, signer *audit.Signer) error {
	if e.Record == nil || e.Record.Kind != audit.Event {
		return errors.New("an errand needs an event")
	}
	rec := &audit.Record{Kind: audit.Event, Action: e.Record.Action, Connection: e.Record.Connection, ResourceType: e.Record.ResourceType,
		Subject: e.Record.Subject, Findings: e.Record.Findings}
	switch {
	case rec.Action == audit.Erased:
		return s.Erase(ctx, rec, e.Erase)
	case rec.Action == audit.Removed:
		return e.prune(ctx, s, signer)
	case rec.Action != audit.Unsealed || len(e.Erase) > 0:
		return fmt.Errorf("an errand cannot be a record %q", rec.Action)
	}
	_, err := s.Append(ctx, rec)
	return err
}

// send has the gateway that runs on a database do the errand.
func (e *errand) send(ctx context.Context, database string) error {
	return e.try(ctx, database, errandWait)
}

// try has the gateway that runs on a database do the errand, or takes it back after a time and returns errUnheeded.
func (e *errand) try(ctx context.Context, database string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, errandWait)
	defer cancel()
	late := time.NewTimer(patience)
	defer late.Stop()
	name, err := e.put(database)
	if err != nil {
		select {
		case <-late.C:
		case <-ctx.Done():
		}
		return fmt.Errorf("%w: %w", errUnheeded, err)
	}
	defer os.Remove(name + answered)
	ticker := time.NewTicker(errandEvery / 4)
	defer ticker.Stop()
	for {
		if text, err := readErrand(name + answered); err == nil {
			if len(text) > 0 {
				return fmt.Errorf("the gateway that runs on the database: %s", shownText(string(text)))
			}
			return nil
		}
		select {
		case <-ticker.C:
			continue
		case <-late.C:
		case <-ctx.Done():
		}
		if os.Remove(name+asked) == nil { // who takes it removes it first: it is done once or not at all
			return fmt.Errorf("%w within %v", errUnheeded, patience)
		}
		if ctx.Err() != nil {
			return errors.New("the gateway that runs on the database has not said that it did it: look into its log, and into the trail whether it did")
		}
	}
}

// put puts the errand into the folder, for the user whose that is, and returns its name without an ending.
func (e *errand) put(database string) (string, error) {
	folder := errandFolder(database)
	info, err := os.Lstat(folder)
	if err == nil && (!info.IsDir() || info.Mode().Perm()&0o022 != 0) {
		err = fmt.Errorf("%s is not a folder that its owner alone can write to", shown(folder))
	}
	if err != nil {
		return "", fmt.Errorf("who holds %s takes no errands (%w): end it, or start a gateway of this release", shown(database), err)
	}
	text, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	var random [8]byte
	rand.Read(random[:])
	name := filepath.Join(folder, fmt.Sprintf("%x", random))
	if err := putFile(name+asked, text, info); err != nil {
		return "", fmt.Errorf("the errands of the gateway on %s cannot be written: %w; run this as the user it runs as", shown(database), err)
	}
	return name, nil
}

// openErrands returns the folder for errands, which nobody else can write to: what stands there is done.
func openErrands(database string) (string, error) {
	folder := errandFolder(database)
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(folder)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is not a folder: remove it", folder)
	}
	if uid, _, ok := audit.Owner(info); ok && uid != os.Geteuid() {
		return "", fmt.Errorf("the folder %s belongs to user %d: remove it", folder, uid)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return folder, nil
	}
	// Somebody opened it: a volume that is mounted for a group, for one. What others may have put there is not done.
	if err := os.Chmod(folder, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(folder)
	for _, entry := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(folder, entry.Name())))
	}
	return folder, err
}

// doErrands does what commands ask for until ctx ends.
func (a *app) doErrands(ctx context.Context) {
	folder, err := openErrands(a.cfg.Database)
	if err != nil {
		a.log.Warn("no errands are taken: `audit erase`, `audit prune` and `audit show --unseal` work only while no gateway runs", "error", err)
	}
	errands, logs := time.NewTicker(errandEvery), time.NewTicker(logEvery)
	defer errands.Stop()
	defer logs.Stop()
	for {
		select {
		case <-errands.C:
			if folder == "" {
				continue
			}
			entries, _ := os.ReadDir(folder) // a folder that is gone has none
			for _, entry := range entries {
				a.doErrand(ctx, filepath.Join(folder, entry.Name()), entry)
			}
		case <-logs.C:
			_ = a.store.EmptyLog(ctx) // somebody still reads it: the next time
		case <-ctx.Done():
			return
		}
	}
}

// doErrand does one errand; what nobody waits for any more is removed.
func (a *app) doErrand(ctx context.Context, file string, entry fs.DirEntry) {
	info, err := entry.Info()
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	if time.Since(info.ModTime()) > errandWait {
		_ = os.Remove(file)
		return
	}
	name, ok := strings.CutSuffix(file, asked)
	if !ok {
		return
	}
	text, err := readErrand(file)
	if os.Remove(file) != nil { // before: what fails is not tried again, and what was taken back is not done
		return
	}
	var e errand
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), errandWait/2)
		err = e.run(ctx, a.store, a.signer)
		cancel()
		if a.sealer != nil && len(e.Erase) > 0 {
			a.sealer.Forget() // also after an error: they may be gone
		}
	}
	answer := ""
	if err != nil {
		answer = err.Error()
		a.log.Error("an errand was not done", "error", err)
	}
	if err := putFile(name+answered, []byte(answer), info); err != nil {
		a.log.Error("an errand cannot be answered", "error", err)
	}
}

// putFile makes a new file appear as a whole, for the user whose another file or folder is: root may write for others.
func putFile(name string, content []byte, like fs.FileInfo) error {
	file, err := os.OpenFile(name+unfinished, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if uid, gid, ok := audit.Owner(like); ok && err == nil && uid != os.Geteuid() {
		err = file.Chown(uid, gid)
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(name+unfinished, name)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(name+unfinished))
	}
	return err
}

func readErrand(name string) ([]byte, error) {
	if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fs.ErrInvalid)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, errandSize))
}
