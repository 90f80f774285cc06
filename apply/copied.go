package apply

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// metaTree is the mirror's top directory: its inode number and the time at which that was made. Whoever copies a store file by file makes
// another. What a copy may lack (names of one file that became files of their own, extended attributes) no run sees: it looks at what changed in the source.
const metaTree = "tree"

// Copied tells that the store is a copy of the one for which NoteTree was called last.
func (s *Store) Copied() (bool, error) {
	was, err := s.Meta(metaTree)
	if err != nil || was == "" {
		return false, err
	}
	now, err := s.treeNow()
	return now != was, err
}

// NoteTree remembers which files the store lies in, for Copied.
func (s *Store) NoteTree() error {
	was, err := s.Meta(metaTree)
	if err != nil {
		return err
	}
	now, err := s.treeNow()
	if err != nil || now == was {
		return err
	}
	return s.SetMeta(metaTree, now)
}

func (s *Store) treeNow() (string, error) {
	var st unix.Statx_t
	path := filepath.Join(s.path, "tree")
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return "", fmt.Errorf("looking at %s: %w", path, err)
	}
	return fmt.Sprintf("%d %d.%09d", st.Ino, st.Btime.Sec, st.Btime.Nsec), nil
}
