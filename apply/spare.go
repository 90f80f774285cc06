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
// is plenty. Where the filesystem has a number of inodes (ext4) some of these are kept too, as a directory of empty files: each restore point that is
// dropped takes one for its lease, and the prune some more.
const (
	spareInodesDir = "spare-inodes"
	spareInodes    = 64
	spareInodesMin = 2000 // they are made where at least so many are free

	spareFile  = "spare"
	spareBytes = 4 << 20
	spareUse   = 2 << 20  // it is removed where less is free
	spareMake  = 64 << 20 // it is made where at least so much is free
)

// KeepSpare makes the file that keeps some room in the store, if it is not there and there is plenty of room. It is no failure when
// the filesystem cannot set room aside.
func (s *Store) KeepSpare() error {
	return errors.Join(s.keepSpareRoom(), s.keepSpareInodes())
}

func (s *Store) keepSpareRoom() error {
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

// keepSpareInodes fills the directory of empty files.
func (s *Store) keepSpareInodes() error {
	have := 0
	err := ignoreMissing(s.top.ReadDir(spareInodesDir, func(string, uint8, uint64) error { have++; return nil }))
	if err != nil || have >= spareInodes {
		return err
	}
	counted, free, err := freeInodes(s.path)
	if err != nil || !counted || free < spareInodesMin {
		return err
	}
	if err := s.top.Mkdir(spareInodesDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("setting some inodes aside: %w", err)
	}
	for i := range spareInodes {
		fd, err := s.top.Open(fmt.Sprintf("%s/%d", spareInodesDir, i), unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return fmt.Errorf("setting some inodes aside: %w", err)
		}
		unix.Close(fd)
	}
	return nil
}

// UseSpare gives back the room and the inodes that the store at path has set aside, if next to nothing else is free.
func UseSpare(path string) error {
	counted, inodes, err := freeInodes(path)
	if err == nil && counted && inodes < spareInodes {
		err = os.RemoveAll(filepath.Join(path, spareInodesDir))
	}
	if err != nil {
		return fmt.Errorf("giving back the inodes that were set aside: %w", err)
	}
	free, err := freeBytes(path)
	if err != nil || free >= spareUse {
		return err
	}
	if err := os.Remove(filepath.Join(path, spareFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("giving back the room that was set aside: %w", err)
	}
	return nil
}

// freeInodes tells whether a filesystem has a number of inodes, and how many are free.
func freeInodes(path string) (counted bool, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false, 0, fmt.Errorf("looking how many inodes %s has: %w", path, err)
	}
	return st.Files > 0, int64(st.Ffree), nil
}

func freeBytes(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("looking how much room %s has: %w", path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
