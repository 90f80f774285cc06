package apply

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// metaTree is the mirror's top directory: its inode number and the time at which that was made. Whoever copies a store file by file makes
// another. What a copy may lack (names of one file that became files of their own, extended attributes) no run sees: it looks at what changed in the source.
const metaTree = "tree"

// NoteTree remembers which files the store lies in. copied: they are a copy of those that it remembered.
func (s *Store) NoteTree() (copied bool, err error) {
	was, err := s.Meta(metaTree)
	if err != nil {
		return false, err
	}
	now, err := s.treeNow()
	if err != nil || now == was {
		return false, err
	}
	return was != "", s.SetMeta(metaTree, now)
}

func (s *Store) treeNow() (string, error) {
	var st unix.Statx_t
	path := filepath.Join(s.path, "tree")
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return "", fmt.Errorf("looking at %s: %w", path, err)
	}
	return fmt.Sprintf("%d %d.%09d", st.Ino, st.Btime.Sec, st.Btime.Nsec), nil
}
