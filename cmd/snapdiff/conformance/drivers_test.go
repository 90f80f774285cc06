package conformance

import (
	"path/filepath"
	"testing"

	. "snapdiff/apply/applytest"
)

// driver makes sources of one kind. To add a kind is to add one row to drivers.
type driver struct {
	name string
	// lacks are the operations that the filesystem does not know.
	lacks []Feature
	// mirrors are the filesystems on which the mirror is tried. In the test machine, where system calls are slow, few.
	mirrors []Kind
	// make makes an empty source for the duration of the test. It begins with NeedRoot, NeedZFS or NeedLVM.
	make func(t testing.TB) origin
}

// origin is a source that a driver made.
type origin struct {
	source string // as the configuration names it
	dir    string // where it is mounted
	// settings are more lines of the job's configuration.
	settings string
	// live: the mounted source can be compared with the mirror. Not so where it shows what a snapshot does not.
	live bool
}

var drivers = []driver{
	{"btrfs", nil, MirrorKinds, func(t testing.TB) origin {
		dir := Subvolume(t, filepath.Join(Mount(t, Btrfs), "source"))
		return origin{source: dir, dir: dir}
	}},
	{"zfs", zfsLacks, MirrorKinds, func(t testing.TB) origin { return zfsOrigin(t, "-o", "xattr=sa", "-o", "dnodesize=auto") }},
	lvmDriver(Thin, Ext4), lvmDriver(Thin, XFS), lvmDriver(Classic, Ext4), lvmDriver(Classic, XFS),
}
