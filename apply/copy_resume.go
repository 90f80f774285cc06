package apply

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// resume goes through what a former attempt has marked, and queues what it has not. The marked directories are read before
// anything is copied: an inode with several names may have one in any of them.
func (f *firstCopy) resume(ctx context.Context) error {
	last, err := f.marks.lastNode()
	if err != nil {
		return err
	}
	if f.bad, err = f.marks.pending(); err != nil {
		return err
	}
	root := &copyDir{node: rootNode}
	f.queue.nodes = max(last, rootNode)
	_, done, err := f.marks.marked(root)
	if err != nil {
		return err
	}
	if !done {
		if err := f.prepareTop(ctx); err != nil {
			return err
		}
		f.queue.parts = []copyTask{{dir: root}}
		return nil
	}
	return f.readAllMarked(ctx, root)
}

// markedFrame is a marked directory whose subdirectories are being looked at.
type markedFrame struct {
	copyFrame          // names: not looked at
	unmarked  []string // to be queued
}

// readAllMarked goes down through the marked directories and queues the subdirectories that are not marked.
func (f *firstCopy) readAllMarked(ctx context.Context, root *copyDir) error {
	top, err := f.readMarked(root)
	if err != nil {
		return err
	}
	frames := []*markedFrame{top}
	for len(frames) > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		at := frames[len(frames)-1]
		if len(at.names) == 0 {
			f.queue.addDirs(&copyFrame{path: at.path, node: at.node, names: at.unmarked, dirty: true})
			frames = frames[:len(frames)-1]
			continue
		}
		kid := &copyDir{path: join(at.path, at.names[0]), name: at.names[0], parent: at.node}
		at.names = at.names[1:]
		node, ok, err := f.marks.marked(kid)
		if err != nil {
			return err
		}
		if !ok {
			if !f.bad[kid.path] || f.exists(kid.path) {
				at.unmarked = append(at.unmarked, kid.name)
			}
			continue
		}
		kid.node = node
		below, err := f.readMarked(kid)
		if err != nil {
			return err
		}
		frames = append(frames, below)
	}
	return nil
}

// prepareTop empties the mirror (nothing in it is marked), and takes away what its top directory would hand down to new
// files.
func (f *firstCopy) prepareTop(ctx context.Context) error {
	if err := f.clear(ctx, ""); err != nil {
		return err
	}
	err := f.mirror.RemoveXattr("", "system.posix_acl_default")
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
		return writeError("", "remove the default ACL of", err)
	}
	return nil
}

// readMarked finds the link groups of a marked directory, and its subdirectories.
func (f *firstCopy) readMarked(d *copyDir) (*markedFrame, error) {
	f.counts.Dirs.Add(1)
	var entries, kids []copyEntry
	err := f.next.ReadDir(d.path, func(name string, dtype uint8, ino uint64) error {
		if path := join(d.path, name); !f.exclude.Match(path) && !diff.TooDeep(path) {
			entries = append(entries, copyEntry{name, dtype, ino})
		}
		return nil
	})
	if err = readError(d.path, "list the directory", err); err != nil && !(IsBadFile(err) && f.bad[d.path]) {
		return nil, err
	}
	for _, e := range entries {
		isDir, err := f.meetMarked(join(d.path, e.name), e)
		if err != nil {
			return nil, err
		}
		if isDir {
			kids = append(kids, e)
		}
	}
	return &markedFrame{copyFrame: copyFrame{path: d.path, node: d.node, names: inInodeOrder(kids)}}, nil
}

func (f *firstCopy) exists(path string) bool {
	_, err := f.mirror.Lstat(path)
	return err == nil
}

// meetMarked counts a name in a marked directory, and tells a directory.
func (f *firstCopy) meetMarked(path string, e copyEntry) (bool, error) {
	if e.dtype == unix.DT_DIR {
		return true, nil
	}
	st, err := f.next.Lstat(path)
	if err != nil {
		if err = readError(path, "stat", err); IsBadFile(err) {
			return false, nil // it is pending already
		}
		return false, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return true, nil
	}
	if f.bad[path] {
		return false, nil
	}
	first := true
	if st.Nlink > 1 {
		var g *linkGroup
		if g, first = f.links.claim(linkIno{st.Dev, st.Ino}, uint32(st.Nlink), path); first {
			g.settle(nil)
		}
	}
	f.count(&st, !first, nil)
	return false, nil
}

// clear empties a directory of the mirror that is not marked, however deep.
func (f *firstCopy) clear(ctx context.Context, path string) error {
	dirs := []string{path}
	for len(dirs) > 0 {
		if ctx.Err() != nil {
			return errStopped
		}
		at := dirs[len(dirs)-1]
		subdirs, err := f.clearFiles(at)
		if err != nil {
			return err
		}
		if len(subdirs) > 0 {
			dirs = append(dirs, subdirs...)
			continue
		}
		dirs = dirs[:len(dirs)-1]
		if at == path {
			break
		}
		if err := f.at("clear"); err != nil {
			return err
		}
		if err := f.mirror.Rmdir(at); err != nil {
			return writeError(at, "remove the left-over", err)
		}
	}
	return nil
}

// clearFiles removes all but the subdirectories, which it gives back.
func (f *firstCopy) clearFiles(dir string) ([]string, error) {
	var files, subdirs []string
	err := f.mirror.ReadDir(dir, func(name string, dtype uint8, _ uint64) error {
		path := join(dir, name)
		if dtype == unix.DT_UNKNOWN {
			st, err := f.mirror.Lstat(path)
			if err != nil {
				return err
			}
			dtype = uint8(st.Mode & unix.S_IFMT >> 12)
		}
		if dtype == unix.DT_DIR {
			subdirs = append(subdirs, path)
		} else {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		return nil, writeError(dir, "list", err)
	}
	for _, path := range files {
		if err := f.at("clear"); err != nil {
			return nil, err
		}
		if err := f.mirror.Unlink(path); err != nil {
			return nil, writeError(path, "remove the left-over", err)
		}
	}
	return subdirs, nil
}
