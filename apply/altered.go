package apply

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
)

const (
	// metaAltered is why the next comparison must be a full one.
	metaAltered = "altered"
	// metaMendable is set where that is so for no other reason than that somebody altered the mirror: the catalog is right, and Mend is
	// enough to make the mirror right again.
	metaMendable = "mendable"
)

// NeedsFull tells why the next run must compare in full: somebody changed the mirror, or took something out of it. "" when a
// native diff will do. It is kept until a full comparison is recorded, or Mend has ended.
func (s *Store) NeedsFull() (reason string, err error) { return s.Meta(metaAltered) }

// Mendable tells that NeedsFull has a reason, and that Mend is enough: earlier restore points stay what they were then, while a full
// comparison takes what somebody did to the mirror for history.
func (s *Store) Mendable() (bool, error) {
	value, err := s.Meta(metaMendable)
	return value != "", err
}

// setNeedsFull is for the caller's transaction. The first reason is kept. Mend is not enough any more.
func (s *Store) setNeedsFull(reason string) error {
	err := s.exec(`INSERT OR IGNORE INTO meta(key, value) VALUES (?, ?)`, metaAltered, reason)
	return errors.Join(err, s.exec(`DELETE FROM meta WHERE key = ?`, metaMendable))
}

// setAltered says that somebody altered the mirror, and nothing else is wrong, unless something was before. It is durable when it returns, or with
// the transaction that is open.
func (s *Store) setAltered(reason string) error {
	return catalogError("note that the mirror was altered", s.exec(`INSERT INTO meta(key, value)
		SELECT k, v FROM (SELECT ?1 AS k, ?2 AS v UNION ALL SELECT ?3, '1') WHERE NOT EXISTS (SELECT 1 FROM meta WHERE key = ?1)`, metaAltered, reason, metaMendable))
}

// clearNeedsFull is for the transaction that records a full comparison.
func (s *Store) clearNeedsFull() error {
	return s.exec(`DELETE FROM meta WHERE key IN (?, ?)`, metaAltered, metaMendable)
}

// alter says what somebody did to the mirror. It must be called before the run makes good what was done, as far as it does,
// because after a cut there is nothing left to be seen of it.
func (x *execution) alter(format string, args ...any) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.alterLocked(format, args...)
}

func (x *execution) alterLocked(format string, args ...any) error {
	x.say(format, args...)
	if x.altered {
		return nil
	}
	x.altered = true
	return x.s.setAltered("the mirror was altered: " + fmt.Sprintf(format, args...))
}

// foreign keeps in history what is not ours.
func (x *execution) foreign(from *beneath.Root, path string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := 1; ; i++ {
		to := fmt.Sprintf("r%d/foreign-%d", x.run, i)
		taken, err := exists(x.s.history_, to)
		if err != nil {
			return err
		}
		if taken {
			continue
		}
		if err := x.alterLocked("it held %q, which no run put there and which is now history/%s", path, to); err != nil {
			return err
		}
		return beneath.Rename(from, path, x.s.history_, to, unix.RENAME_NOREPLACE)
	}
}

// clear moves away what somebody else put at a name that has to be free.
func (x *execution) clear(path string) error {
	there, err := exists(x.s.tree, path)
	if err != nil || !there {
		return err
	}
	return x.foreign(x.s.tree, path)
}

// onWay does something with a name of the mirror. When the way to it is not there (somebody removed a directory of the mirror, or
// put a symlink in its place) it is made first.
func (x *execution) onWay(path string, do func() error) error {
	err := do()
	if !missing(err) {
		return err
	}
	if err := x.mend(path); err != nil {
		return err
	}
	return do()
}

// mend makes all directories above a name of the mirror that should be there and are not. What they should hold is missing.
func (x *execution) mend(path string) error {
	x.mending.Lock()
	defer x.mending.Unlock()
	for i := range len(path) {
		if path[i] != '/' {
			continue
		}
		dir := path[:i]
		st, err := x.s.tree.Lstat(dir)
		switch {
		case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
			continue
		case err == nil:
			err = x.foreign(x.s.tree, dir)
		case errors.Is(err, fs.ErrNotExist):
			err = x.alter("directory %q, which no run removed, is missing with all that it held", dir)
		}
		if err == nil {
			err = x.s.tree.Mkdir(dir, 0o700)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
