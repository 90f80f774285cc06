package apply

import (
	"fmt"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
)

// NotAsWritten says that a file was read back from the disk as something else than what was written. The run was not committed.
type NotAsWritten struct {
	Path string
	Err  error // of the reading; may be nil
}

// Error names the file.
func (e *NotAsWritten) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%q cannot be read back from the disk: %v; nothing was committed", e.Path, e.Err)
	}
	return fmt.Sprintf("%q is not on the disk as it was written; nothing was committed", e.Path)
}

// Hint is what to do next.
func (e *NotAsWritten) Hint() string {
	return "the disk of the store, its cable or the memory is bad: see dmesg and smartctl; the next run writes all of it again"
}

// readBack reads files of the mirror from the disk, not from the page cache, and compares them with the checksums of what was written;
// where that is not known, with the snapshot. They must have been synced.
func readBack(mirror, next *beneath.Root, files []builtFile, at func(string) error, each func(n int, do func(i int) error) error) error {
	return each(len(files), func(i int) error {
		if err := at("read back"); err != nil {
			return err
		}
		return readBackFile(mirror, next, files[i])
	})
}

func readBackFile(mirror, next *beneath.Root, f builtFile) error {
	buf := make([]byte, 256<<10)
	want := f.sum
	if !f.known && next == nil { // the run has only to be committed, and its snapshot is gone: it was read back when Finish ended
		return nil
	}
	if !f.known {
		var err error
		if want, err = sumFile(next, f.path, buf); err != nil {
			return readError(f.path, "read", err)
		}
	}
	fd, err := mirror.Open(f.path, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
	if missing(err) {
		return nil // it could not be put there, which was said
	}
	if err != nil {
		return &NotAsWritten{f.path, err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != f.ino {
		return err
	}
	if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil { // of what is on the disk; all of it is
		return &NotAsWritten{f.path, err}
	}
	got, err := sumOpen(fd, buf)
	if err != nil || got != want {
		return &NotAsWritten{f.path, err}
	}
	return nil
}
