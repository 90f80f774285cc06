package apply

import (
	"strconv"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
)

// ReserveRun takes the next id of a run, for one that is held and may go through later (see Run.ID). No other run gets it.
func (s *Store) ReserveRun() (id int64, err error) {
	err = s.transaction("reserve the id of a run", func() error {
		err := s.query(`SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'runs'), 0) + 1`,
			func(row *sqlite.Stmt) error { id = row.ColumnInt64(0); return nil })
		if err != nil {
			return err
		}
		if err := s.exec(`UPDATE sqlite_sequence SET seq = ? WHERE name = 'runs'`, id); err != nil || s.conn.Changes() > 0 {
			return err
		}
		return s.exec(`INSERT INTO sqlite_sequence(name, seq) VALUES ('runs', ?)`, id)
	})
	return id, err
}

// metaFiles is the number of names in the mirror that are no directories. Whatever changes the mirror keeps it, in the
// transaction that commits the change.
const metaFiles = "files"

// FileNames is the number of names in the mirror that are no directories. A store that an early version made does not know
// it until the next full comparison, and counts added and removed directories too.
func (s *Store) FileNames() (int64, error) {
	text, err := s.Meta(metaFiles)
	if err != nil {
		return 0, err
	}
	if text != "" {
		return strconv.ParseInt(text, 10, 64)
	}
	runs, err := s.Runs()
	var files int64
	for _, run := range runs {
		files += run.Counts.Files + run.Counts.Added - run.Counts.Removed
	}
	return files, err
}

// setFileNames sets the number within the caller's transaction.
func (s *Store) setFileNames(n int64) error {
	return s.exec(`INSERT OR REPLACE INTO meta(key, value) VALUES (?, ?)`, metaFiles, strconv.FormatInt(n, 10))
}

// countFileNames adds to the number, within the caller's transaction, by how many names the plan has made the mirror grow.
// What is pending may have been kept from coming.
func (s *Store) countFileNames(p *plan, pending []Problem) error {
	bad := map[diff.Key]bool{}
	for _, b := range pending {
		bad[b.Key] = true
	}
	n := int64(0)
	for _, l := range p.Linked {
		if l.Type == unix.S_IFDIR {
			continue
		}
		if bad[l.Key] {
			if there, err := exists(s.tree, l.Path); err != nil {
				return err
			} else if !there {
				continue
			}
		}
		n++
	}
	for _, u := range p.Unlinked {
		if u.Type != unix.S_IFDIR {
			n--
		}
	}
	return s.exec(`UPDATE meta SET value = CAST(CAST(value AS INTEGER) + ? AS TEXT) WHERE key = ?`, n, metaFiles)
}

// present counts those of the pending files that the mirror has, only not with all their attributes.
func (s *Store) present(pending []Problem) (n int64, err error) {
	for _, b := range pending {
		st, err := s.tree.Lstat(b.Path)
		switch {
		case missing(err):
		case err != nil:
			return 0, err
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			n++
		}
	}
	return n, nil
}
