package apply

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"
)

// Deleted hands over every path of the older restore point that the newer one does not have, also those below removed
// directories and below the former names of moved ones; what is in a directory before the directory itself.
func (c *Comparison) Deleted(ctx context.Context, yield func(path string) error) error {
	d := &deletedPaths{ctx: ctx, c: c, yield: yield}
	return d.below("")
}

// deletedPaths goes backwards through the names that went. Where a directory moved away, the old tree is walked below it; all
// others have a row each.
type deletedPaths struct {
	ctx   context.Context
	c     *Comparison
	yield func(path string) error

	dir   string    // the directory that was looked up last, in the newer restore point
	there *ViewFile // nil: it has no such directory
	known bool
}

// below goes through the names that went below a path.
func (d *deletedPaths) below(path string) error {
	var list []string
	moved := ""
	d.c.lost.at.AscendGreaterOrEqual(changedPath{path: path}, func(p changedPath) bool {
		switch {
		case p.path == path || moved != "" && isBelow(p.path, moved):
			return true
		case path != "" && !isBelow(p.path, path):
			return false
		}
		list = append(list, p.path)
		moved = ""
		if _, ok := d.c.movedFrom[p.path]; ok {
			moved = p.path
		}
		return true
	})
	for _, p := range slices.Backward(list) {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		now, err := d.lookup(p)
		if err != nil {
			return err
		}
		if old, ok := d.c.movedFrom[p]; ok {
			err = d.walk(old, now, p)
		} else if now == nil {
			err = d.yield(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// walk goes through what was at path and below. now is what is there, nil for nothing.
func (d *deletedPaths) walk(old ViewFile, now *ViewFile, path string) error {
	if now != nil && old.Type == unix.S_IFDIR && now.node == old.node {
		return d.below(path) // it was moved back here with another directory above it: what went in it has rows
	}
	if old.Type == unix.S_IFDIR {
		files, err := d.c.old.ReadDir(old)
		if err != nil {
			return err
		}
		for _, f := range slices.Backward(files) {
			if err := d.ctx.Err(); err != nil {
				return err
			}
			is, err := d.child(now, f.Name)
			if err != nil {
				return err
			}
			if err := d.walk(f, is, join(path, f.Name)); err != nil {
				return err
			}
		}
	}
	if now != nil {
		return nil
	}
	return d.yield(path)
}

// lookup finds a path in the newer restore point; nil when there is nothing. Names of one directory follow each other.
func (d *deletedPaths) lookup(path string) (*ViewFile, error) {
	dir, name := split(path)
	if !d.known || dir != d.dir {
		f, err := d.c.view.Lookup(dir)
		if err != nil && !nothing(err) {
			return nil, err
		}
		d.dir, d.there, d.known = dir, &f, true
		if err != nil {
			d.there = nil
		}
	}
	return d.child(d.there, name)
}

// child finds a name in a directory of the newer restore point; nil when there is nothing.
func (d *deletedPaths) child(dir *ViewFile, name string) (*ViewFile, error) {
	if dir == nil {
		return nil, nil
	}
	f, err := d.c.view.Child(*dir, name)
	if nothing(err) {
		return nil, nil
	}
	return &f, err
}

// nothing tells that there is no such name.
func nothing(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }
