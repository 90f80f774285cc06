package job

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/output"
	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// NoSpace says that the store's filesystem has no room for what was to be done.
type NoSpace struct {
	Store string
	Err   error
}

// Error gives what failed.
func (e *NoSpace) Error() string {
	return fmt.Sprintf("no room on the filesystem of %s: %v", e.Store, e.Err)
}

// Unwrap gives what failed.
func (e *NoSpace) Unwrap() error { return e.Err }

// Hint is what to do next.
func (e *NoSpace) Hint() string {
	return "make room there (snapdiff prune drops what keep does not keep; if even that has no room, remove something else or enlarge the filesystem) and run again: a run that was cut off is finished first, nothing is lost"
}

// leastRoom is what the catalog needs to be opened for writing: its WAL and shared memory.
const leastRoom = 1 << 20

// checkLeastRoom refuses to open a catalog on a disk that has no room at all.
func checkLeastRoom(j config.Job) error {
	at := j.Store
	if j.Catalog != "" {
		at = filepath.Dir(j.Catalog)
	}
	var st unix.Statfs_t
	if unix.Statfs(at, &st) == nil && int64(st.Bavail)*st.Bsize < leastRoom {
		return &NoSpace{at, fmt.Errorf("only %d KB are free, not enough to begin anything", int64(st.Bavail)*st.Bsize>>10)}
	}
	return nil
}

// compressing are filesystems that may hold more than they have room for. What does not fit at this ratio is refused there.
const compressing = 4

// fits is how many bytes of files may fit on a filesystem, at most.
func fits(st *unix.Statfs_t) int64 {
	free := int64(st.Bavail) * st.Bsize
	if st.Type == unix.BTRFS_SUPER_MAGIC || st.Type == zfsMagic {
		free *= compressing
	}
	return free
}

// checkRoom refuses a change set that cannot fit, before the mirror is touched.
func (r *runner) checkRoom(changes *diff.ChangeSet, next *beneath.Root) error {
	var bytes, inodes int64
	room, failed := r.store.Room(next)
	changes.Inodes.Ascend(func(i diff.Inode) bool {
		if failed != nil {
			return false
		}
		if i.What&diff.New != 0 {
			inodes++
		}
		n, err := room.Of(&i)
		bytes, failed = bytes+n, err
		return err == nil
	})
	var st unix.Statfs_t
	if err := errors.Join(failed, unix.Fstatfs(r.store.Mirror().FD(), &st)); err != nil {
		return fmt.Errorf("estimate the room that the run needs: %w", err)
	}
	switch {
	case bytes > fits(&st):
		return &NoSpace{r.job.Store, fmt.Errorf("the run needs about %s, %s are free; the mirror was not touched", output.Size(bytes), output.Size(int64(st.Bavail)*st.Bsize))}
	case st.Files > 0 && inodes > int64(st.Ffree):
		return &NoSpace{r.job.Store, fmt.Errorf("the run makes %s files, %s inodes are free; the mirror was not touched", output.Count(inodes), output.Count(int64(st.Ffree)))}
	}
	return nil
}

// zfsMagic is ZFS_SUPER_MAGIC of include/sys/fs/zfs.h.
const zfsMagic = 0x2fc12fc1
