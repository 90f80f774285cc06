package apply

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// PathsOptions of Comparison.Paths.
type PathsOptions struct {
	// Dirs lists the directory of each path too, where it would not be listed: to extract into it what tar has moves its time.
	Dirs bool
	// Searching, when set, is called before other names of so many files are looked for in all directories of the mirror.
	Searching func(files int)
}

// Paths hands over every path of the newer restore point that a copy of the older one needs, a directory before what is in it:
// all that changed, all that is below a moved directory, the directories that names came to or went from (to make the change
// in a copy moves their times), and of a file with several names all of them. Other names of hard-linked files below moved
// directories come last.
func (c *Comparison) Paths(ctx context.Context, o PathsOptions, yield func(path string) error) error {
	each := func(path string, _ *ViewFile) error { return yield(path) }
	if o.Dirs {
		each = withDirs(each)
	}
	return c.files(ctx, o.Searching, each)
}

// withDirs makes of yield one that hands over the directory of each path first, if it was not among the paths before. The
// paths come in the order of a walk, or else some directories come twice.
func withDirs(yield func(path string, f *ViewFile) error) func(path string, f *ViewFile) error {
	var above []string // what came last, and the directories above it that came
	return func(path string, f *ViewFile) error {
		if path == "" {
			above = []string{""}
			return yield(path, f)
		}
		dir, _ := split(path)
		for n := len(above); n > 0 && above[n-1] != dir && above[n-1] != "" && !isBelow(dir, above[n-1]); n-- {
			above = above[:n-1]
		}
		if n := len(above); n == 0 || above[n-1] != dir {
			if err := yield(dir, nil); err != nil {
				return err
			}
			above = append(above, dir)
		}
		above = append(above, path)
		return yield(path, f)
	}
}

// files is Paths with the file where it is known.
func (c *Comparison) files(ctx context.Context, searching func(files int), yield func(path string, f *ViewFile) error) error {
	w := &changedFiles{c: c, yield: yield, links: map[uint64]*partLinks{}}
	moved := ""
	var err error
	c.list.at.Ascend(func(p changedPath) bool {
		if err = ctx.Err(); err != nil {
			return false
		}
		if p.now == nil || moved != "" && isBelow(p.path, moved) {
			return true
		}
		if err = yield(p.path, nil); err != nil {
			return false
		}
		if dir, ok := c.movedTo[p.path]; ok {
			moved = p.path
			err = w.below(ctx, dir, p.path)
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	return w.otherNames(ctx, searching)
}

// IsBelow tells whether path is dir or below it; "" is the top directory.
func IsBelow(path, dir string) bool { return dir == "" || path == dir || isBelow(path, dir) }

func isBelow(path, dir string) bool {
	return len(path) > len(dir) && path[len(dir)] == '/' && strings.HasPrefix(path, dir)
}

// changedFiles lists what is below moved directories.
type changedFiles struct {
	c     *Comparison
	yield func(path string, f *ViewFile) error
	links map[uint64]*partLinks // files below moved directories of which not all names were met, by ViewAttr.Ino
}

// partLinks is a file of which some names were met.
type partLinks struct {
	node int64
	left uint32
	met  []string
}

func (w *changedFiles) below(ctx context.Context, dir ViewFile, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	files, err := w.c.new.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		at := join(path, f.Name)
		if err := w.yield(at, &f); err != nil {
			return err
		}
		if f.Type == unix.S_IFDIR {
			err = w.below(ctx, f, at)
		} else if !w.c.nodes[f.node] { // of a file that changed all names are listed
			err = w.link(f, at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// link notes one name of a file that has several.
func (w *changedFiles) link(f ViewFile, path string) error {
	a, err := w.c.new.Lstat(f)
	if err != nil || a.Nlink < 2 {
		return err
	}
	g := w.links[a.Ino]
	if g == nil {
		g = &partLinks{node: f.node, left: a.Nlink}
		w.links[a.Ino] = g
	}
	g.met = append(g.met, path)
	if g.left--; g.left == 0 {
		delete(w.links, a.Ino)
	}
	return nil
}

// otherNames lists the names that files below moved directories have elsewhere. The catalog knows them of files that have
// changed once; for the others the mirror's directories are searched.
func (w *changedFiles) otherNames(ctx context.Context, searching func(files int)) error {
	for ino, g := range w.links {
		if g.node == 0 {
			continue
		}
		delete(w.links, ino)
		var names []named
		err := w.c.view.settled(func(e epoch) (err error) { names, err = newMoment(w.c.view, e).names(g.node); return err })
		if err != nil {
			return err
		}
		for _, n := range names {
			if !slices.Contains(g.met, n.path) {
				if err := w.yield(n.path, nil); err != nil {
					return err
				}
			}
		}
	}
	if len(w.links) == 0 {
		return nil
	}
	if searching != nil {
		searching(len(w.links))
	}
	return w.search(ctx, rootNode)
}

// search looks through a directory of the mirror for names of the files in links, by inode number. None of them has ever
// changed, so they had the same names in the same directories at the restore point.
func (w *changedFiles) search(ctx context.Context, dir int64) error {
	if err := ctx.Err(); err != nil || len(w.links) == 0 {
		return err
	}
	var found map[string]*partLinks
	var below []int64
	err := w.c.view.settled(func(e epoch) (err error) {
		found, below, err = w.look(e, dir)
		return err
	})
	if err != nil {
		return err
	}
	for name, g := range found {
		if err := w.found(dir, name, g); err != nil {
			return err
		}
	}
	for _, d := range below {
		if err := w.search(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// look reads one directory of the mirror: names that may be looked for, and the directories in it.
func (w *changedFiles) look(e epoch, dir int64) (found map[string]*partLinks, below []int64, err error) {
	live, err := w.c.view.openDir(e, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer live.release()
	nodes, err := w.c.view.liveNodes(dir)
	if err != nil {
		return nil, nil, err
	}
	found = map[string]*partLinks{}
	err = live.root.ReadDir("", func(name string, dtype uint8, ino uint64) error {
		switch g := w.links[ino]; {
		case dtype == unix.DT_DIR && nodes[name] != 0:
			below = append(below, nodes[name])
		case dtype != unix.DT_DIR && g != nil:
			found[name] = g
		}
		return nil
	})
	return found, below, err
}

// found lists a name, unless it was met on the way through the moved directories.
func (w *changedFiles) found(dir int64, name string, g *partLinks) error {
	at, there, err := w.c.new.dir(dir)
	path := join(at, name)
	if err != nil || !there || slices.Contains(g.met, path) {
		return err
	}
	if g.left--; g.left == 0 {
		maps.DeleteFunc(w.links, func(_ uint64, other *partLinks) bool { return other == g })
	}
	return w.yield(path, nil)
}
