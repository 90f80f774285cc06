package job

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/output"
)

// CheckOutside refuses a path, of a directory or of a file that is to be made, in a store or in a place for snapshots of these jobs. What is written into a
// mirror no run notices, as it goes by what changed in the source. Paths are compared by what they lead to, through symlinks and other mounts.
func CheckOutside(jobs []config.Job, path string) error {
	at := existing(realPath(path))
	for _, j := range jobs {
		if liesIn(at, j.Store, "tree", "history", "stage") {
			return hint.With(fmt.Errorf("%s lies in the store %s of job %s: what is put there no run notices, and the mirror would differ from its source", output.Name(path), j.Store, j.Name),
				"name a place outside of the store")
		}
		if j.Snapshots != "" && liesIn(at, j.Snapshots) {
			return hint.With(fmt.Errorf("%s lies in %s, the place for the snapshots of job %s", output.Name(path), j.Snapshots, j.Name), "name a place outside of it")
		}
	}
	return nil
}

// liesIn tells whether a path, without symlinks in it, is a place or lies in it. parts are names in the place that may be mounted elsewhere, each alone.
func liesIn(path, place string, parts ...string) bool {
	if inFilesystem(path, place) {
		return true
	}
	tops := map[[2]uint64]bool{} // what is mounted on the way is not always listed: in a chroot, say
	for _, part := range append(parts, "") {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(place, part), &st) == nil {
			tops[[2]uint64{st.Dev, st.Ino}] = true
		}
	}
	found := false
	eachAbove(path, func(st *unix.Stat_t) bool {
		found = tops[[2]uint64{st.Dev, st.Ino}]
		return !found
	})
	return found
}

// inFilesystem tells whether a path leads to something in a place by what their filesystem calls the two, whatever of it is mounted where.
func inFilesystem(path, place string) bool {
	var of, at unix.Stat_t
	if unix.Stat(path, &of) != nil || unix.Stat(place, &at) != nil || of.Dev != at.Dev { // which spares most jobs of many the list of mounts
		return false
	}
	from, err := mountOf(path)
	if err != nil {
		return false
	}
	place = realPath(place)
	to, err := mountOf(place)
	if err != nil || from.Major != to.Major || from.Minor != to.Minor {
		return false
	}
	inside := func(root, mounted, path string) string {
		rel, err := filepath.Rel(mounted, path)
		if err != nil {
			return ""
		}
		return filepath.Join(root, rel)
	}
	below, top := inside(from.Root, from.Mountpoint, path), inside(to.Root, to.Mountpoint, place)
	return below != "" && top != "" && within(below, top)
}

// eachAbove hands over the directory at path, or that of the file at path, and all above it up to the root, until yield says that it is enough.
func eachAbove(path string, yield func(*unix.Stat_t) bool) {
	const how = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	fd, err := unix.Open(path, how, 0)
	if err == unix.ENOTDIR {
		fd, err = unix.Open(filepath.Dir(path), how, 0)
	}
	var below unix.Stat_t
	for err == nil {
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err != nil || st.Dev == below.Dev && st.Ino == below.Ino || !yield(&st) {
			unix.Close(fd)
			return
		}
		below = st
		var up int
		up, err = unix.Openat(fd, "..", how, 0)
		unix.Close(fd)
		fd = up
	}
}
