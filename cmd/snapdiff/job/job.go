// Package job is the glue of one job: it takes the snapshot, asks diff what changed and has apply bring the mirror up to
// date. It decides nothing about how any of the three is done.
package job

import (
	"cmp"
	"context"
	"errors"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/source"
)

// metaSource is where the store keeps the identity of its source.
const metaSource = "source"

// InitOptions say how a store is made.
type InitOptions struct {
	// Adopt takes a copy that lies in STORE/tree already as the mirror. The first run then compares it in full.
	Adopt bool
	// ThrowAway says that the store is not to last: where it lies is not warned of.
	ThrowAway bool
}

// ErrIsStore says that a store of this job is there already.
var ErrIsStore = errors.New("the store is there already")

// Init makes the store of a job and remembers its source. It writes nothing unless all is well; ErrIsStore says that there is
// nothing to do. The warnings are about what works but should not stay so.
func Init(ctx context.Context, j config.Job, o InitOptions) (warnings []string, err error) {
	if err := checkRoot(); err != nil {
		return nil, err
	}
	src, err := source.Open(ctx, j)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	if err := checkPlace(ctx, j, src); err != nil {
		return nil, err
	}
	if err := alreadyStore(j, src); err != nil {
		return nil, err
	}
	if err := checkWritable(j.Store); err != nil {
		return nil, err
	}
	opts := []apply.Option{apply.CatalogAt(j.Catalog)}
	if o.Adopt {
		if err := checkAdopted(j.Store); err != nil {
			return nil, err
		}
		opts = append(opts, apply.Adopt())
	}
	if err := apply.Init(j.Store, opts...); err != nil {
		return nil, err
	}
	store, err := apply.Open(j.Store)
	if err != nil {
		return nil, err
	}
	if w := cmp.Or(sharedDisk(j, src), onRoot(j.Store)); w != "" && !o.ThrowAway {
		warnings = append(warnings, w)
	}
	return warnings, errors.Join(store.SetMeta(metaSource, src.ID()), store.Close())
}

// alreadyStore is ErrIsStore where the store is that of this source, and another error where it is not.
func alreadyStore(j config.Job, src source.Source) error {
	store, err := apply.OpenReadOnly(j.Store, apply.CatalogAt(j.Catalog))
	if errors.Is(err, apply.ErrNotStore) {
		return nil
	}
	if err != nil {
		return err
	}
	defer store.Close()
	known, err := store.Meta(metaSource)
	switch {
	case err != nil:
		return err
	case known != "" && known != src.ID():
		return &OtherSource{Job: j, Known: known, Found: src.ID()}
	}
	return ErrIsStore
}

// open opens the source and the store of a job, for writing, alone. Whether they belong together is for the caller to see.
func open(ctx context.Context, j config.Job) (source.Source, *apply.Store, error) {
	if err := checkRoot(); err != nil {
		return nil, nil, err
	}
	src, err := source.Open(ctx, j)
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(checkPlace(ctx, j, src), checkWritable(j.Store)); err != nil {
		return nil, nil, errors.Join(err, src.Close())
	}
	if err := checkLeastRoom(j); err != nil {
		return nil, nil, errors.Join(err, src.Close())
	}
	store, err := apply.Open(j.Store, apply.CatalogAt(j.Catalog))
	if err != nil {
		return nil, nil, errors.Join(err, src.Close())
	}
	return src, store, nil
}
