package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"scimgate/config"
	"scimgate/config/profile"
	"scimgate/gateway/audit"
	"scimgate/transform"
	"scimgate/transform/scim"
)

// masterFile is the file of the master keys, beside that of the trail's other key.
func masterFile(keyFile string) string { return strings.TrimSuffix(keyFile, ".key") + ".master-key" }

// openSealer makes what seals values, unless that is switched off. The master key stays outside the database, so that
// whoever has that alone, or a backup of it, can read none of them. A new one is made only where nothing is sealed yet: a
// volume that is not mounted must not begin a second key.
func (a *app) openSealer(ctx context.Context) error {
	if !a.cfg.Privacy.Seal {
		return nil
	}
	newest, sealed, err := a.store.NewestPersonKey(ctx)
	if err != nil {
		return err
	}
	file, load := masterFile(a.cfg.KeyFile), audit.LoadOrCreateKeys
	if sealed {
		load = audit.LoadKeys
	}
	masters, err := load(file)
	if sealed && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the master key of what the trail has sealed is missing: %w; restore the file from a backup. If it is lost, so are the values: put %d random bytes there to go on without them", err, audit.KeySize)
	}
	if err != nil {
		return err
	}
	if a.sealer, err = audit.NewSealer(masters, a.store); err != nil {
		return err
	}
	if sealed && !a.sealer.Opens(newest.Master) {
		a.log.Warn("the values that were sealed until now cannot be read: the master key is another one; restore the file it was in",
			"file", file, "master", newest.Master)
	}
	return nil
}

// warnReadable names keys that others than their owner may read.
func (a *app) warnReadable(files ...string) {
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o044 != 0 {
			a.log.Warn("others than its owner can read a key of the trail: chmod 600", "file", file, "mode", info.Mode().Perm().String())
		}
	}
}

// unknownPaths tells of configured paths that no resource type has: a slip of the pen would leave a secret unprotected.
func unknownPaths(cfg *config.Config) (warnings []string) {
	var types []*scim.ResourceType
	for _, p := range append(profilesOf(cfg), cfg.Simulate) {
		if p == nil {
			continue
		}
		if t, err := transform.New(p); err == nil { // else that is told elsewhere
			types = append(types, t.Types()...)
		}
	}
	for _, path := range slices.Concat(cfg.Privacy.Public, cfg.Privacy.Secret) {
		if !slices.ContainsFunc(types, func(rt *scim.ResourceType) bool { _, _, err := rt.CompilePath(path); return err == nil }) {
			warnings = append(warnings, "privacy: no schema of any connection has the attribute "+path+": is it spelled as clients send it?")
		}
	}
	return warnings
}

func profilesOf(cfg *config.Config) (list []*profile.Profile) {
	for _, c := range cfg.Connections {
		list = append(list, c.Profile)
	}
	return list
}
