package apply

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
)

// The checksums of contents, by the number of the inode in the store that has them: it stays the same when the inode is renamed,
// linked or moved into history, so that nothing but building and removing inodes changes the table. An inode without a row has no
// known checksum. Rows of inodes that are gone do no harm: whoever builds an inode sets or removes the row of its number.
//
// A copy of a store on another filesystem has other numbers: metaSumsOf says which mirror the rows are of, by number and birth
// time of its top directory.
const metaSumsOf = "sums"

// fileSum is what an inode holds.
type fileSum struct {
	ino   uint64
	sum   uint64
	known bool
}

// sumsIdentity tells the mirror's top directory from any copy of it.
func (s *Store) sumsIdentity() (string, error) {
	var st unix.Statx_t
	if err := unix.Statx(s.tree.FD(), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return "", fmt.Errorf("looking at the mirror: %w", err)
	}
	return fmt.Sprintf("%d %d.%09d", st.Ino, st.Btime.Sec, st.Btime.Nsec), nil
}

// sumsValid tells whether the rows are of this mirror.
func (s *Store) sumsValid() (bool, error) {
	id, err := s.sumsIdentity()
	if err != nil {
		return false, err
	}
	known, err := s.Meta(metaSumsOf)
	return known == id, err
}

// setSums notes checksums, within the caller's transaction.
func (s *Store) setSums(sums []fileSum) error {
	if len(sums) == 0 {
		return nil
	}
	valid, err := s.sumsValid()
	if err != nil {
		return err
	}
	if !valid && !slices.ContainsFunc(sums, func(f fileSum) bool { return f.known }) {
		return nil
	}
	if !valid { // the store was copied from another disk, or these are the first
		id, err := s.sumsIdentity()
		if err != nil {
			return err
		}
		if err := s.exec(`DELETE FROM sums`); err != nil {
			return err
		}
		if err := s.SetMeta(metaSumsOf, id); err != nil {
			return err
		}
	}
	for _, f := range sums {
		if f.known {
			err = s.exec(`INSERT INTO sums(ino, sum) VALUES (?, ?) ON CONFLICT(ino) DO UPDATE SET sum = excluded.sum WHERE sum <> excluded.sum`, int64(f.ino), int64(f.sum))
		} else {
			err = s.exec(`DELETE FROM sums WHERE ino = ?`, int64(f.ino))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sumOf gives the checksum of an inode.
func (s *Store) sumOf(ino uint64) (sum uint64, known bool, err error) {
	err = s.query(`SELECT sum FROM sums WHERE ino = ?`, func(row *sqlite.Stmt) error { sum, known = uint64(row.ColumnInt64(0)), true; return nil }, int64(ino))
	return sum, known, err
}

// objectSums hands over the known checksums of a run's objects in history.
func (s *Store) objectSums(run int64, yield func(node int64, sum uint64) error) error {
	valid, err := s.sumsValid()
	if err != nil || !valid {
		return err
	}
	err = s.history_.ReadDir(fmt.Sprintf("r%d", run), func(name string, _ uint8, ino uint64) error {
		node, err := strconv.ParseInt(name, 10, 64)
		if err != nil {
			return nil
		}
		sum, known, err := s.sumOf(ino)
		if err != nil || !known {
			return err
		}
		return yield(node, sum)
	})
	if missing(err) {
		return nil
	}
	return err
}

// builtFiles collects what a builder has made.
type builtFiles struct {
	mu    sync.Mutex
	files []builtFile
	// paths: with their paths, to read them back.
	paths bool
}

type builtFile struct {
	fileSum
	path string
}

func (b *builtFiles) add(path string, f fileSum) {
	if !b.paths {
		path = ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.files = append(b.files, builtFile{f, path})
}

// take gives what was collected since the last time.
func (b *builtFiles) take() []builtFile {
	b.mu.Lock()
	defer b.mu.Unlock()
	files := b.files
	b.files = nil
	return files
}

// sumsOf leaves out the paths, in the order of inode numbers: neighbours in the table are neighbours on the disk.
func sumsOf(files []builtFile) []fileSum {
	sums := make([]fileSum, len(files))
	for i, f := range files {
		sums[i] = f.fileSum
	}
	slices.SortStableFunc(sums, func(a, b fileSum) int { return cmp.Compare(a.ino, b.ino) })
	return sums
}
