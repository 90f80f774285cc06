// Package job is the glue of one job: it takes the snapshot, asks diff what changed and has apply bring the mirror up to
// date. It decides nothing about how any of the three is done.
package job

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/source"
)

// metaSource is where the store keeps the identity of its source.
const metaSource = "source"

// Init makes the store of a job and remembers its source. It writes nothing unless all is well.
func Init(ctx context.Context, j config.Job) error {
	src, err := source.Open(ctx, j)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := checkPlace(j, src); err != nil {
		return err
	}
	if err := apply.Init(j.Store); err != nil {
		return err
	}
	store, err := apply.Open(j.Store)
	if err != nil {
		return err
	}
	return errors.Join(store.SetMeta(metaSource, src.ID()), store.Close())
}

// checkPlace refuses what this version cannot do (a catalog elsewhere), a store inside the source (each run would copy the store) and a source inside the store.
func checkPlace(j config.Job, src source.Source) error {
	if j.Catalog != "" {
		return hint.With(errors.New("catalog: this version keeps the catalog in the store and nowhere else"),
			"take catalog out of the configuration; the store must be on a local filesystem")
	}
	if src.Dir() == "" {
		return nil // not mounted: nothing can lie inside it
	}
	dir, err := filepath.EvalSymlinks(src.Dir())
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	store := realPath(j.Store)
	switch {
	case within(store, dir):
		return hint.With(fmt.Errorf("the store %s lies inside the source %s", j.Store, j.Source), "put the store on another disk")
	case within(dir, store):
		return hint.With(fmt.Errorf("the source %s lies inside the store %s", j.Source, j.Store), "put the store on another disk")
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

// open opens the source and the store of a job, for writing, alone, and makes sure that they belong together.
func open(ctx context.Context, j config.Job) (_ source.Source, _ *apply.Store, err error) {
	src, err := source.Open(ctx, j)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, src.Close())
		}
	}()
	if err := checkPlace(j, src); err != nil {
		return nil, nil, err
	}
	store, err := apply.Open(j.Store)
	if err != nil {
		return nil, nil, err
	}
	if err := checkSource(j, store, src.ID()); err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return src, store, nil
}

// checkSource refuses a source that is not the one which the store mirrors. A store that does not know it yet (init was
// cut off) is told.
func checkSource(j config.Job, store *apply.Store, id string) error {
	known, err := store.Meta(metaSource)
	switch {
	case err != nil:
		return err
	case known == "":
		return store.SetMeta(metaSource, id)
	case known != id:
		return hint.With(fmt.Errorf("%s is another source (%s) than the one that this store mirrors (%s)", j.Source, id, known),
			"is the right filesystem mounted? To mirror this source give it a store of its own and run snapdiff init")
	}
	return nil
}
