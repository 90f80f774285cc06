// Package job is the glue of one job: it takes the snapshot, asks diff what changed and has apply bring the mirror up to
// date. It decides nothing about how any of the three is done.
package job

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/snapshot/btrfs"
)

// ownDir is the directory at the top of a source that holds our snapshots by default. It stays out of the mirror.
const ownDir = ".snapdiff"

// metaSource is where the store keeps the identity of its source.
const metaSource = "source"

// Init makes the store of a job and remembers its source. It writes nothing unless all is well.
func Init(j config.Job) error {
	source, err := sourceOf(j)
	if err != nil {
		return err
	}
	if err := checkPlace(j); err != nil {
		return err
	}
	if err := apply.Init(j.Store); err != nil {
		return err
	}
	store, err := apply.Open(j.Store)
	if err != nil {
		return err
	}
	return errors.Join(store.SetMeta(metaSource, source), store.Close())
}

// sourceOf is the identity of the job's source: the UUID of the subvolume.
func sourceOf(j config.Job) (string, error) {
	info, err := btrfs.Info(j.Source)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", withHint(fmt.Errorf("source %s: no such file or directory", j.Source), "mount it, or correct source in the configuration")
	case errors.Is(err, btrfs.ErrNotSubvolume), errors.Is(err, btrfs.ErrNotBtrfs):
		return "", withHint(fmt.Errorf("source %s is not a btrfs subvolume: %w", j.Source, err),
			"name the top directory of a subvolume (btrfs subvolume list shows them)")
	case err != nil:
		return "", fmt.Errorf("source: %w", err)
	}
	return info.UUID.String(), nil
}

// checkPlace refuses what this version cannot do (a catalog elsewhere), a store inside the source (each run would copy the store) and a source inside the store.
func checkPlace(j config.Job) error {
	if j.Catalog != "" {
		return withHint(errors.New("catalog: this version keeps the catalog in the store and nowhere else"),
			"take catalog out of the configuration; the store must be on a local filesystem")
	}
	source, err := filepath.EvalSymlinks(j.Source)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	store := realPath(j.Store)
	switch {
	case within(store, source):
		return withHint(fmt.Errorf("the store %s lies inside the source %s", j.Store, j.Source), "put the store on another disk")
	case within(source, store):
		return withHint(fmt.Errorf("the source %s lies inside the store %s", j.Source, j.Store), "put the store on another disk")
	}
	return nil
}

// realPath resolves the symlinks in that part of a path which exists.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil || path == "/" {
		return real
	}
	return filepath.Join(realPath(filepath.Dir(path)), filepath.Base(path))
}

func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// open opens the store of a job for writing, alone, and makes sure that it belongs to this source.
func open(j config.Job) (*apply.Store, error) {
	source, err := sourceOf(j)
	if err != nil {
		return nil, err
	}
	if err := checkPlace(j); err != nil {
		return nil, err
	}
	store, err := apply.Open(j.Store)
	if err != nil {
		return nil, err
	}
	if err := checkSource(j, store, source); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return store, nil
}

// checkSource refuses a source that is not the one which the store mirrors. A store that does not know it yet (init was
// cut off) is told.
func checkSource(j config.Job, store *apply.Store, source string) error {
	known, err := store.Meta(metaSource)
	switch {
	case err != nil:
		return err
	case known == "":
		return store.SetMeta(metaSource, source)
	case known != source:
		return withHint(fmt.Errorf("%s is another source (%s) than the one that this store mirrors (%s)", j.Source, source, known),
			"is the right filesystem mounted? To mirror this source give it a store of its own and run snapdiff init")
	}
	return nil
}

// makeSnapshotDir makes the place for our snapshots, for root alone: they show files that their owners may since have
// protected.
func makeSnapshotDir(j config.Job) error {
	if err := os.Mkdir(j.Snapshots, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the place for snapshots: %w", err)
	}
	return nil
}
