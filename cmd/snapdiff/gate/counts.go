// Package gate looks at a change set before it touches the mirror: how much it would delete and change, whether it looks like the
// work of ransomware, and where. What is too much is for the job to say.
package gate

import (
	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// GoneNames counts the names of the files that went: the most that Deleted can give, without its memory.
func GoneNames(set *diff.ChangeSet) (n int64) {
	set.Gone.Ascend(func(g diff.Gone) bool {
		if !g.BaseAttr.IsDir() {
			n += int64(len(g.BasePaths))
		}
		return true
	})
	return n
}

// Changed counts the names of the mirror's files that would not be as they are: those that go, are replaced, or whose file has other
// contents, owner, mode, times or attributes. What only moves does not count, nor does what is new.
func Changed(set *diff.ChangeSet) int64 {
	n := GoneNames(set)
	set.Inodes.Ascend(func(i diff.Inode) bool {
		if altered(&i) {
			n += int64(len(i.BasePaths))
		}
		return true
	})
	return n
}

// altered tells a file that was there before and has other contents or attributes.
func altered(i *diff.Inode) bool {
	return i.What&diff.New == 0 && i.What&(diff.Data|diff.Meta|diff.Xattrs) != 0 && !i.Attr.IsDir()
}

// Deleted counts the names of files that go for good: not those whose file has only moved, and not those that another
// file takes at once, as programs do that save by renaming.
func Deleted(set *diff.ChangeSet) (n int64) {
	deleted(set, func(string) { n++ })
	return n
}

// deleted hands over the paths that Deleted counts.
func deleted(set *diff.ChangeSet, yield func(path string)) {
	gone := make(map[diff.Key]bool)
	set.Gone.Ascend(func(g diff.Gone) bool {
		if !g.BaseAttr.IsDir() {
			gone[g.Key] = true
		}
		return true
	})
	type place struct {
		dir  diff.Key
		name string
	}
	went := make(map[place]string)
	set.Unlinked.Ascend(func(n diff.Name) bool {
		if gone[n.Key] {
			went[place{n.Parent, n.Base()}] = n.Path
		}
		return true
	})
	set.Linked.Ascend(func(n diff.Name) bool {
		if n.Type != unix.S_IFDIR {
			delete(went, place{n.Parent, n.Base()})
		}
		return true
	})
	for _, path := range went {
		yield(path)
	}
}
