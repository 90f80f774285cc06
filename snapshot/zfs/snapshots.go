package zfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	gozfs "github.com/mistifyio/go-zfs/v3"

	"snapdiff/snapshot"
)

// Prefix begins the name of every snapshot that is ours. Nothing else is ever destroyed.
const Prefix = "snapdiff-"

// Held is a snapshot as zfs list shows it.
type Held struct {
	snapshot.Mark
	Name  string // behind the '@'
	Holds int    // of anybody
	// Going: it is destroyed when the last hold goes.
	Going bool
}

// Take takes a snapshot of the dataset and holds it, so that nobody's clean-up destroys it. It gives its mark and those of all snapshots that
// the dataset has now, in no order. name must begin with Prefix. The time of the mark is when
// it was asked for: all that is in it and not in a later one changed after that, or in the same tick of the clock. base, if it has an ID, is a held snapshot of ours
// which may go as soon as it is not held any more.
func Take(ctx context.Context, d Dataset, name, tag string, base snapshot.Mark) (snapshot.Mark, []Held, error) {
	if !strings.HasPrefix(name, Prefix) {
		return snapshot.Mark{}, nil, fmt.Errorf("take snapshot %q: names of our snapshots begin with %q", name, Prefix)
	}
	if err := errors.Join(ctx.Err(), checkPool(d.Name)); err != nil {
		return snapshot.Mark{}, nil, err
	}
	if err := d.flush(); err != nil {
		return snapshot.Mark{}, nil, err
	}
	asked := time.Now()
	full := d.Name + "@" + name
	all, err := take(ctx, d, full, base)
	if err != nil {
		return snapshot.Mark{}, nil, fmt.Errorf("take a snapshot of %s: %w", d.Name, err)
	}
	err = Hold(ctx, full, tag)
	if err == nil && all == nil {
		all, err = List(ctx, d)
	}
	i := slices.IndexFunc(all, func(h Held) bool { return h.Name == name })
	if err == nil && i < 0 {
		err = fmt.Errorf("snapshot %s is not there after it was taken", full)
	}
	if err != nil {
		return snapshot.Mark{}, nil, errors.Join(err, Destroy(context.WithoutCancel(ctx), full, tag))
	}
	all[i].Taken = asked
	return all[i].Mark, all, nil
}

// MarkOf describes the snapshot of the dataset that has this name; ErrNoDataset when there is none.
func MarkOf(ctx context.Context, d Dataset, name string) (snapshot.Mark, error) {
	all, err := list(ctx, d, "-t", "snapshot", d.Name+"@"+name)
	if err != nil {
		return snapshot.Mark{}, err
	}
	if len(all) != 1 {
		return snapshot.Mark{}, fmt.Errorf("snapshot %s@%s: zfs list gave %d lines", d.Name, name, len(all))
	}
	return all[0].Mark, nil
}

// List gives all snapshots of the dataset, those of others too, oldest first.
func List(ctx context.Context, d Dataset) ([]Held, error) {
	return list(ctx, d, "-t", "snapshot", "-d", "1", "-s", "createtxg", d.Name)
}

// heldProperties are what heldOf reads.
const heldProperties = "name,guid,createtxg,creation,userrefs,defer_destroy"

func list(ctx context.Context, d Dataset, args ...string) ([]Held, error) {
	lines, err := run(ctx, append([]string{"list", "-H", "-p", "-o", heldProperties}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("list snapshots of %s: %w", d.Name, err)
	}
	return heldOf(d, lines)
}

// heldOf reads lines of heldProperties.
func heldOf(d Dataset, lines [][]string) (all []Held, err error) {
	for _, f := range lines {
		if len(f) != 6 {
			return nil, fmt.Errorf("list snapshots of %s: a line of %d fields: %q", d.Name, len(f), f)
		}
		txg, err1 := strconv.ParseUint(f[2], 10, 64)
		taken, err2 := strconv.ParseInt(f[3], 10, 64)
		holds, err3 := strconv.Atoi(f[4])
		_, name, ok := strings.Cut(f[0], "@")
		if err := errors.Join(err1, err2, err3); err != nil || !ok {
			return nil, fmt.Errorf("list snapshots of %s: line %q: %w", d.Name, f, err)
		}
		all = append(all, Held{Name: name, Holds: holds, Going: f[5] == "on", Mark: snapshot.Mark{
			Kind: "zfs", Source: d.GUID, ID: f[1], Parent: d.GUID, Path: f[0], Trans: txg, Taken: time.Unix(taken, 0),
		}})
	}
	return all, nil
}

// Hold holds the snapshot of this full name. One that has the tag already stays as it is.
func Hold(ctx context.Context, name, tag string) error {
	_, err := run(ctx, "hold", tag, name)
	var failed *Error
	if errors.As(err, &failed) && strings.Contains(failed.Stderr, "tag already exists") {
		return nil
	}
	return err
}

// Release takes our hold away from the snapshot of this full name. One that has none stays as it is.
func Release(ctx context.Context, name, tag string) error {
	_, err := run(ctx, "release", tag, name)
	var failed *Error
	if errors.As(err, &failed) && strings.Contains(failed.Stderr, "no such tag") {
		return nil
	}
	return err
}

// HoldsTag tells whether the snapshot of this full name has the tag.
func HoldsTag(ctx context.Context, name, tag string) (bool, error) {
	lines, err := run(ctx, "holds", "-H", name)
	for _, f := range lines {
		if len(f) >= 2 && f[1] == tag {
			return true, nil
		}
	}
	return false, err
}

// Destroy releases and destroys our snapshot of this full name.
func Destroy(ctx context.Context, name, tag string) error {
	if _, short, ok := strings.Cut(name, "@"); !ok || !strings.HasPrefix(short, Prefix) {
		return fmt.Errorf("destroy %q: not a snapshot of ours, their names begin with %q", name, Prefix)
	}
	if err := Release(ctx, name, tag); err != nil {
		return err
	}
	err := (&gozfs.Dataset{Name: name, Type: gozfs.DatasetSnapshot}).Destroy(gozfs.DestroyDefault)
	var failed *Error
	if err = libraryError(err); errors.As(err, &failed) && strings.Contains(failed.Stderr, "could not find any snapshots") {
		return nil // it went with our hold; see Held.Going
	}
	if err != nil {
		return fmt.Errorf("destroy snapshot %s: %w", name, err)
	}
	return nil
}

// libraryError makes an error of go-zfs one of ours: it has the words of zfs in a field.
func libraryError(err error) error {
	var e *gozfs.Error
	if !errors.As(err, &e) {
		return err
	}
	said := strings.TrimSpace(e.Stderr)
	if said == "" {
		return e.Err
	}
	return &Error{Args: append([]string{"zfs"}, strings.Fields(e.Debug)[1:]...), Stderr: e.Stderr, Err: e.Err}
}
