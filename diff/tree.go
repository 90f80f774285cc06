package diff

import "golang.org/x/sys/unix"

import "errors"

// ErrNoInode says that a snapshot has no inode of the number that was asked for.
var ErrNoInode = errors.New("is not in the snapshot")

// Tree is one snapshot seen by inode numbers. Implementations read the filesystem's own structures and must not be used
// by several goroutines at once.
type Tree interface {
	// Root is the number of the top directory.
	Root() uint64
	// Inode gives an inode's fields; false when there is none of this number. An inode without names (deleted while
	// open) counts as one.
	Inode(num uint64) (Info, bool, error)
	// Entries gives the names in a directory, in no order.
	Entries(dir uint64, yield func(Entry) error) error
	// Names gives all names of an inode, those of a directory too; none for the root.
	Names(num uint64) ([]Ref, error)
	// Xattrs gives all extended attributes in one string that is equal exactly when they are, "" for none.
	Xattrs(num uint64) (string, error)
}

// Expecter is a Tree that reads faster when it knows what will be asked.
type Expecter interface {
	// Expect says that Inode, Names, Xattrs and the contents of these inodes, ascending, will be asked for next, one inode
	// after the other; other questions may come between.
	Expect(list []Candidate)
}

// Info is what a Tree knows of an inode. Its Nlink is 0 where nobody need have a name of it: deleted while open, or a file of the filesystem's own.
type Info struct {
	Attr
	Gen uint64
}

// Entry is one name in a directory.
type Entry struct {
	Name string
	Ino  uint64
	Type uint32 // S_IFMT part of the mode
	// Sub marks a nested subvolume or dataset: Ino is its root's number, which may equal that of a file.
	Sub bool
}

// kind is the type that the mirror shows.
func (e Entry) kind() uint32 {
	if e.Sub {
		return unix.S_IFDIR
	}
	return e.Type
}

// Ref is one name of an inode.
type Ref struct {
	Parent uint64
	Name   string
}

// placeholder marks keys of nested subvolumes, whose root numbers are no inode numbers.
const placeholder = 1 << 63

// PlaceholderKey is the key of the empty directory that stands for a nested subvolume.
func PlaceholderKey(root uint64) Key { return Key{Ino: root | placeholder} }

// IsPlaceholder tells the key of a nested subvolume.
func (k Key) IsPlaceholder() bool { return k.Ino&placeholder != 0 && k.Gen == 0 }

// PlaceholderAttr is what the mirror shows of a nested subvolume: the kernel invents times for it, so these are fixed.
var PlaceholderAttr = Attr{Mode: 0o40755, Nlink: 1}
