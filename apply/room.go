package apply

import (
	"fmt"
	"maps"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// Room tells how much a run will take up in the store. It is an estimate: what is replaced goes to history and frees nothing.
type Room struct {
	next    *beneath.Root
	patches bool // large files are patched in place
	clones  bool // they are cloned, and what differs is copied
}

// Room looks what the mirror's filesystem can do. next is the new snapshot.
func (s *Store) Room(next *beneath.Root) (*Room, error) {
	r := &Room{next: next}
	var err error
	if r.patches, err = patchesInPlace(s.tree); err != nil || r.patches {
		return r, err
	}
	r.clones, err = s.canClone()
	return r, err
}

// canClone tries to clone a file that has no name.
func (s *Store) canClone() (bool, error) {
	var fd [2]int
	for i := range fd {
		var err error
		if fd[i], err = unix.Openat(s.stage.FD(), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600); err != nil {
			return false, nil // a filesystem that has no such files has no clones either
		}
		defer unix.Close(fd[i])
	}
	if err := writeAll(fd[0], make([]byte, holeBlock), 0); err != nil {
		return false, fmt.Errorf("trying whether the mirror's filesystem can clone: %w", err)
	}
	return unix.IoctlFileClone(fd[1], fd[0]) == nil, nil
}

// Of is about how many bytes an inode of the change set will take up.
func (r *Room) Of(in *diff.Inode) (int64, error) {
	if !in.Attr.IsRegular() || in.What&(diff.New|diff.Data) == 0 {
		return 0, nil
	}
	size := in.Attr.Size
	switch {
	case r.patches && largeChange(in): // what is overwritten is kept, what it grows by comes
		return roundUp(sumOfRanges(touched(in))) + roundUp(max(0, size-in.BaseAttr.Size)), nil
	case r.clones && in.Ranges != nil && worthCloning(size, in.Ranges):
		return roundUp(min(sumOfRanges(in.Ranges), size)), nil
	}
	const small = 1 << 20 // holes in these are not worth a system call
	if size < small {
		return roundUp(size), nil
	}
	st, err := r.next.Lstat(in.Paths[0])
	return roundUp(min(size, st.Blocks*512)), err
}

func sumOfRanges(list []diff.Range) (sum int64) {
	for _, r := range list {
		sum += r.Len
	}
	return sum
}

// spaces is how many bytes objects in history take, by their nodes, where that is known: what is kept of small files, and by how many bytes the mirror's new
// files that are clones of old ones differ from these.
func (x *execution) spaces() map[int64]int64 {
	known := map[int64]int64{}
	if len(x.problems) == 0 { // else some may be in the mirror still
		maps.Copy(known, x.kept)
	}
	if x.build.noClone.Load() {
		return known
	}
	for i := range x.plan.Inodes {
		in := &x.plan.Inodes[i]
		if in.Attr.IsRegular() && in.What&(diff.New|diff.Data) == diff.Data && in.Ranges != nil && worthCloning(in.Attr.Size, in.Ranges) && !x.isPatched(in.Key) {
			known[x.nodes[in.Key]] = roundUp(sumOfRanges(in.Ranges) + max(0, in.BaseAttr.Size-in.Attr.Size))
		}
	}
	return known
}
