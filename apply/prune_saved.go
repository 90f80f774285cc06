package apply

import (
	"errors"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
)

// handOverSaved gives the row before v, within the transaction that drops v, what of v's contents it leans on and has not saved itself:
// v's ranges, or all the rest of v's object.
func (p *pruner) handOverSaved(v *staleVersion) error {
	if v.olderContent == contentLater {
		if err := p.s.exec(`UPDATE versions SET content = ? WHERE node = ? AND run = ?`, contentSaved, v.node, v.older); err != nil {
			return err
		}
		return p.s.exec(`UPDATE saved SET run = ? WHERE node = ? AND run = ?`, v.older, v.node, v.run)
	}
	size := int64(0)
	err := p.s.query(`SELECT size FROM versions WHERE node = ? AND run = ?`, func(row *sqlite.Stmt) error { size = row.ColumnInt64(0); return nil }, v.node, v.older)
	if err != nil {
		return err
	}
	upper, err := readSaved(p.s.query, v.node, v.older)
	if err != nil {
		return err
	}
	lower := []savedRange{{diff.Range{Len: size}, v.run}}
	if v.content == contentSaved {
		if lower, err = readSaved(p.s.query, v.node, v.run); err != nil {
			return err
		}
	}
	parts := cutAt(uncovered(upper, lower), size)
	if err := p.s.insertSaved(v.node, v.older, parts); err != nil || v.content == contentSaved {
		return err
	}
	bytes := v.bytes
	if len(parts) > 0 {
		bytes = max(0, bytes-sumOf(parts))
	}
	v.bytes = 0
	return p.trim(v.run, v.node, bytes)
}

func sumOf(list []savedRange) (sum int64) {
	for _, r := range list {
		sum += r.Len
	}
	return sum
}

// dropSaved takes out the ranges of a row that goes. Those that were handed over are on another row.
func (p *pruner) dropSaved(v staleVersion) error {
	objects := map[int64]int64{} // bytes of each that are not needed
	err := p.s.query(`SELECT object, sum(len) FROM saved WHERE node = ? AND run = ? GROUP BY object`, func(row *sqlite.Stmt) error {
		objects[row.ColumnInt64(0)] = row.ColumnInt64(1)
		return nil
	}, v.node, v.run)
	if err != nil {
		return err
	}
	if err := p.s.exec(`DELETE FROM saved WHERE node = ? AND run = ?`, v.node, v.run); err != nil {
		return err
	}
	for object, bytes := range objects {
		st, err := p.s.top.Lstat(savedPath(object, v.node))
		if err != nil && !missing(err) {
			return err
		}
		if err := p.trim(object, v.node, min(bytes, st.Blocks*512)); err != nil {
			return err
		}
	}
	return nil
}

// trim notes an object of which some, or all, is not needed any more: about so many bytes.
func (p *pruner) trim(run, node, bytes int64) error {
	return p.s.exec(`INSERT INTO trim(run, node, bytes) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes`, run, node, bytes)
}

// emptyTrim removes or punches what no row needs of saved ranges. The objects that it links to are out of trash by now.
func (p *pruner) emptyTrim() error {
	var objects []staleVersion
	err := p.s.query(`SELECT run, node, bytes FROM trim ORDER BY run, node`, func(row *sqlite.Stmt) error {
		objects = append(objects, staleVersion{run: row.ColumnInt64(0), node: row.ColumnInt64(1), bytes: row.ColumnInt64(2)})
		return nil
	})
	for _, o := range objects {
		if err == nil {
			err = p.trimObject(o)
		}
	}
	return catalogError("remove saved ranges", err)
}

func (p *pruner) trimObject(o staleVersion) error {
	if err := p.at("trim"); err != nil {
		return err
	}
	var needed []diff.Range
	err := p.s.query(`SELECT off, len FROM saved WHERE node = ? AND object = ? ORDER BY off`, func(row *sqlite.Stmt) error {
		needed = append(needed, diff.Range{Off: row.ColumnInt64(0), Len: row.ColumnInt64(1)})
		return nil
	}, o.node, o.run)
	if err != nil {
		return err
	}
	freed, err := p.s.trimTo(savedName(o.run, o.node), needed)
	if missing(err) { // an attempt that was cut off removed it
		freed, err = o.bytes, nil
	}
	if err != nil {
		return err
	}
	p.done.Freed += freed
	return p.transaction("note what is removed", func() error {
		return errors.Join(p.s.exec(`DELETE FROM trim WHERE run = ? AND node = ?`, o.run, o.node), p.s.charge(o.run, -freed))
	})
}

// trimTo frees all of an object but the needed ranges, ascending; without any it removes it. One that has another name is left
// as it is.
func (s *Store) trimTo(name string, needed []diff.Range) (freed int64, err error) {
	before, err := s.history_.Lstat(name)
	if err != nil {
		return 0, err
	}
	if len(needed) == 0 {
		if err := s.history_.Unlink(name); before.Nlink > 1 || err != nil {
			return 0, err
		}
		return before.Blocks * 512, nil
	}
	if before.Nlink > 1 {
		return 0, nil
	}
	fd, err := s.history_.Open(name, unix.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	off := int64(0)
	for _, r := range append(needed, diff.Range{Off: roundUp(before.Size)}) {
		if from, to := roundUp(off), r.Off/holeBlock*holeBlock; from < to {
			err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
			if errors.Is(err, unix.EOPNOTSUPP) {
				return 0, nil // space is all that is lost
			}
			if err != nil {
				return 0, err
			}
		}
		off = r.Off + r.Len
	}
	var after unix.Stat_t
	if err := unix.Fstat(fd, &after); err != nil {
		return 0, err
	}
	return max(0, before.Blocks-after.Blocks) * 512, nil
}
