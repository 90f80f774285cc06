package gate

import (
	"cmp"
	"slices"
	"strings"

	"snapdiff/diff"
)

// Dir is a directory and how many names of files below it are concerned.
type Dir struct {
	Path    string // "" is the top
	Deleted int64
	Changed int64 // those deleted not among them
}

func (d Dir) all() int64 { return d.Deleted + d.Changed }

// most is how many directories Worst gives.
const most = 5

// Worst gives the directories with the most deleted and changed files, the worst first. Where nearly all of it (nine tenths) lies
// below one directory its own directories are looked at instead, so that what is named is where it happened.
func Worst(set *diff.ChangeSet) []Dir {
	below := map[string]*Dir{} // each directory with all that lies below it
	count := func(path string, add func(*Dir)) {
		for {
			i := strings.LastIndexByte(path, '/')
			path = path[:max(i, 0)]
			d := below[path]
			if d == nil {
				d = &Dir{Path: strings.Clone(path)}
				below[d.Path] = d
			}
			add(d)
			if path == "" {
				return
			}
		}
	}
	deleted(set, func(path string) { count(path, func(d *Dir) { d.Deleted++ }) })
	set.Inodes.Ascend(func(i diff.Inode) bool {
		if altered(&i) {
			for _, path := range i.BasePaths {
				count(path, func(d *Dir) { d.Changed++ })
			}
		}
		return true
	})
	children := map[string][]*Dir{}
	for path, d := range below {
		if path != "" {
			parent := path[:max(strings.LastIndexByte(path, '/'), 0)]
			children[parent] = append(children[parent], d)
		}
	}
	top := below[""]
	if top == nil {
		return nil
	}
	for at := top; ; {
		next := children[at.Path]
		slices.SortFunc(next, func(a, b *Dir) int { return cmp.Or(cmp.Compare(b.all(), a.all()), strings.Compare(a.Path, b.Path)) })
		if len(next) > 0 && next[0].all()*10 >= top.all()*9 {
			at = next[0]
			continue
		}
		return worst(at, next)
	}
}

// worst are the first of the directories below one, or that one where most of it lies in none of them.
func worst(at *Dir, below []*Dir) []Dir {
	rest := at.all()
	for _, d := range below {
		rest -= d.all()
	}
	if rest*2 >= at.all() {
		return []Dir{*at}
	}
	var list []Dir
	for _, d := range below[:min(most, len(below))] {
		list = append(list, *d)
	}
	return list
}
