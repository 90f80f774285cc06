package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A store keeps a little room for the day on which its disk is full to the last block: to drop restore points takes some too, for the
// catalog's journal and for manifests. It is a file that a prune removes when next to nothing is free, and that is made again when there
// is plenty.
const (
	spareFile  = "spare"
	spareBytes = 4 << 20
	spareUse   = 2 << 20  // it is removed where less is free
	spareMake  = 64 << 20 // it is made where at least so much is free
)

// KeepSpare makes the file that keeps some room in the store, if it is not there and there is plenty of room. It is no failure when
// the filesystem cannot set room aside.
func (s *Store) KeepSpare() error {
	st, err := s.top.Lstat(spareFile)
	if err == nil && st.Blocks*512 >= spareBytes || err != nil && !missing(err) { // one that a kill left empty is filled
		return err
	}
	free, err := freeBytes(s.path)
	if err != nil || free < spareMake {
		return err
	}
	fd, err := s.top.Open(spareFile, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("setting some room aside: %w", err)
	}
	defer unix.Close(fd)
	if unix.Fallocate(fd, 0, 0, spareBytes) != nil {
		return s.top.Unlink(spareFile)
	}
	return nil
}

// UseSpare gives back the room that the store at path has set aside, if next to nothing else is free.
func UseSpare(path string) error {
	free, err := freeBytes(path)
	if err != nil || free >= spareUse {
		return err
	}
	if err := os.Remove(filepath.Join(path, spareFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("giving back the room that was set aside: %w", err)
	}
	return nil
}

func freeBytes(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("looking how much room %s has: %w", path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
