package apply

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// bareness is whether files have extended attributes as soon as they are made: those of a default ACL of the directory, or of a security module.
type bareness struct{ known atomic.Int32 }

const (
	filesBare    = 1
	filesNotBare = 2
)

// of looks at one new file. What the first one in stage has, all get.
func (b *bareness) of(to node) bool {
	if known := b.known.Load(); known != 0 {
		return known == filesBare
	}
	names, err := to.xattrNames()
	if err != nil || len(names) > 0 {
		b.known.Store(filesNotBare)
		return false
	}
	b.known.CompareAndSwap(0, filesBare)
	return true
}

// newAttributes is copyAttributes to a regular file that was made just now. In stage, where nothing but our own files is made, it is what the process
// makes: what it is taken for is looked at once, in the end, and if anything is not as it should be, all is compared.
func (b *builder) newAttributes(from, to node, want *unix.Stat_t) (have unix.Stat_t, err error) {
	if !b.inStage || !b.bare.of(to) {
		return copyAttributes(from, to, want)
	}
	names, err := from.xattrNames()
	if err != nil {
		return have, readError(from.path, "list the attributes of", err)
	}
	if len(names) > 0 {
		return copyAttributes(from, to, want)
	}
	if int(want.Uid) != b.uid || int(want.Gid) != b.gid {
		if err := to.chown(want.Uid, want.Gid); err != nil {
			return have, writeError(from.path, "change the owner of", err)
		}
	}
	if want.Mode&0o7000 != 0 {
		if err := to.chmod(want.Mode & 0o7777); err != nil {
			return have, writeError(from.path, "change the mode of", err)
		}
	}
	if err := to.setMtime(want.Mtim); err != nil {
		return have, writeError(from.path, "set the time of", err)
	}
	if err := to.stat(&have); err != nil {
		return have, writeError(from.path, "stat", err)
	}
	if differs(&have, want) == nil {
		return have, nil
	}
	return copyAttributes(from, to, want)
}
