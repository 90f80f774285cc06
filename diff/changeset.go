// Package diff turns two snapshots of one source into a change set: the names that went and came, and the inodes that
// are new or changed. It only reads. The native diff of a filesystem says which inodes may have changed; names are
// worked out here, from directories, by one algorithm for all filesystems.
package diff

import (
	"strings"

	"github.com/google/btree"
	"golang.org/x/sys/unix"
)

// Key is an inode's identity within one source. Filesystems re-use inode numbers; the generation tells the users of one
// number apart. Gen is 0 only where a filesystem has none.
type Key struct{ Ino, Gen uint64 }

// Attr is what the mirror must reproduce of an inode's fixed fields.
type Attr struct {
	Mode      uint32 // st_mode: type and permission bits
	UID, GID  uint32
	Rdev      uint64 // for devices, as st_rdev
	Size      int64  // bytes; 0 for all but regular files and symlinks
	MtimeSec  int64
	MtimeNsec int32
	Nlink     uint32 // names in the snapshot; 1 for directories
}

// Type is the S_IFMT part of the mode.
func (a Attr) Type() uint32 { return a.Mode & unix.S_IFMT }

// IsDir tells a directory.
func (a Attr) IsDir() bool { return a.Type() == unix.S_IFDIR }

// IsRegular tells a regular file.
func (a Attr) IsRegular() bool { return a.Type() == unix.S_IFREG }

// Range is a part of a file, in bytes.
type Range struct{ Off, Len int64 }

// What says in which ways an inode changed.
type What uint8

const (
	New    What = 1 << iota // not in the base: everything is to be made
	Data                    // contents, holes or size (regular files), see Inode.Ranges
	Meta                    // owner, mode or mtime
	Xattrs                  // any extended attribute, ACLs included
	Links                   // gained or lost names (files); the link count changed or names moved
)

// Name is one name that went or came.
type Name struct {
	// Path is relative to the snapshot's root, no leading slash, bytes of any kind but NUL. "" is the root itself and
	// never occurs here.
	Path string
	// Parent is the directory that holds (or held) the name.
	Parent Key
	// Key is the inode that the name means (or meant).
	Key Key
	// Type is the S_IFMT part of the inode's mode.
	Type uint32
}

// Base is the last element of the path.
func (n Name) Base() string { return n.Path[strings.LastIndexByte(n.Path, '/')+1:] }

// Inode is one inode of the new snapshot that is new or differs from the base. A directory that names came to or went
// from is always among them, with Meta if it is not new: to apply the change set disturbs its mtime.
type Inode struct {
	Key  Key
	What What
	// Paths are all its names in the new snapshot, sorted by bytes, at least one. A directory has exactly one ("" is the
	// root).
	Paths []string
	// BasePaths are all its names in the base, sorted; none when New.
	BasePaths []string
	Attr      Attr // in the new snapshot
	BaseAttr  Attr // in the base; zero when New
	// NoXattrs: in the base it is known to have no extended attributes.
	NoXattrs bool
	// Ranges are the parts of the new file that may differ from the base, ascending, not touching each other, clamped to
	// the new size; only where What has Data. nil: not known, take the whole file. A hole is a range like any other. Bytes outside the ranges are equal in both,
	// up to the smaller of the two sizes.
	Ranges []Range
}

// Gone is an inode of the base that no name in the new snapshot means any more.
type Gone struct {
	Key       Key
	BasePaths []string // all its names in the base, sorted
	BaseAttr  Attr
	NoXattrs  bool // it is known to have no extended attributes
}

// ChangeSet is all that differs between two snapshots. Applied to a tree that equals the base it gives a tree that
// equals the new snapshot. A moved directory is one name that went and one that came, whatever it holds.
//
// Names below a directory that went away are all listed in Unlinked. Names below a directory that only moved are not,
// unless they themselves went or came.
type ChangeSet struct {
	Unlinked *btree.BTreeG[Name]  // names of the base that went, by base path
	Linked   *btree.BTreeG[Name]  // names of the new snapshot that came, by new path
	Inodes   *btree.BTreeG[Inode] // new and changed inodes, by first new path
	Gone     *btree.BTreeG[Gone]  // inodes that went altogether, by first base path
	// Skipped are the nested subvolumes (datasets) in the new snapshot, by path, shown as empty directories and not followed.
	Skipped []string
	// TooDeep are the names in the new snapshot that are left out, with all below them, because of the length of their paths (see
	// LongestPath): those that came, and those that are left out still. Parent is not set.
	TooDeep []Name
	// Settled are inodes that were left out by a name that went.
	Settled []Key
	// Full says why the comparison was a full one; "" when a native diff was used.
	Full string
	// Dirs is how directories were compared. Zero after a full comparison, which reads all of them.
	Dirs DirCount
}

// DirCount counts directories that are in both snapshots and may have changed.
type DirCount struct {
	// Changed are those of which names or anything else may differ.
	Changed int `json:"changed"`
	// Whole are those among them of which every name was read in both snapshots, because what differs could not be told, or not be proved,
	// from less.
	Whole int `json:"read_whole"`
}

// NewChangeSet makes an empty change set.
func NewChangeSet() *ChangeSet {
	const degree = 32
	name := func(a, b Name) bool { return a.Path < b.Path }
	return &ChangeSet{
		Unlinked: btree.NewG(degree, name),
		Linked:   btree.NewG(degree, name),
		Inodes:   btree.NewG(degree, func(a, b Inode) bool { return a.Paths[0] < b.Paths[0] }),
		Gone:     btree.NewG(degree, func(a, b Gone) bool { return a.BasePaths[0] < b.BasePaths[0] }),
	}
}

// Empty tells that nothing differs.
func (c *ChangeSet) Empty() bool {
	return c.Unlinked.Len() == 0 && c.Linked.Len() == 0 && c.Inodes.Len() == 0
}
