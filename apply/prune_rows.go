package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/fiemap"
)

// thin removes the rows that serve no kept restore point any more.
func (p *pruner) thin(g gap) error {
	runs, err := p.s.numbers(`SELECT DISTINCT run FROM entries WHERE run > ? AND run <= ?`, g.from(), g.after)
	if err != nil {
		return err
	}
	for _, run := range runs {
		if err := p.at("entries"); err != nil {
			return err
		}
		if err := p.transaction("drop names", func() error { return p.s.thinEntries(g, run) }); err != nil {
			return err
		}
	}
	runs, err = p.s.numbers(`SELECT DISTINCT run FROM versions WHERE run > ? AND run <= ? ORDER BY run`, g.from(), g.after)
	if err != nil {
		return err
	}
	for _, run := range runs {
		if err := p.thinVersions(g, run); err != nil {
			return err
		}
	}
	return nil
}

// thinEntries removes names of one run. A row goes when the one before it, or the directory, is younger than the last kept
// restore point before the gap.
func (s *Store) thinEntries(g gap, run int64) error {
	return s.exec(`DELETE FROM entries WHERE run = ?1 AND (?2 = 0 OR ?2 < max(
		ifnull((SELECT max(p.run) FROM entries p WHERE p.dir = entries.dir AND p.name = entries.name AND p.run < ?1), 0),
		ifnull((SELECT born FROM nodes WHERE id = entries.dir), 0)))`, run, g.before)
}

// versionBatch is how many versions go in one transaction.
const versionBatch = 2000

// staleVersion is a row of versions that is to go.
type staleVersion struct {
	node, run, content int64
	older              int64 // the run of the row before it; 0: none
	olderContent       int64
	bytes              int64 // on the disk, of its object if that has no other name
}

// leaned tells that the row before it has no contents of its own, or not all of them, and leans on these.
func (v staleVersion) leaned() bool {
	return v.content != contentLater && v.older != 0 && v.olderContent != contentObject
}

// thinVersions removes versions of one run.
func (p *pruner) thinVersions(g gap, run int64) error {
	for node := int64(0); ; {
		batch, last, err := p.staleVersions(g, run, node)
		if err != nil || last == 0 {
			return err
		}
		if p.opts.Progress != nil {
			p.opts.Progress(Progress{Doing: fmt.Sprintf("looking at what r%d changed", run)})
		}
		if node = last; len(batch) == 0 {
			continue
		}
		if batch, err = p.handOver(batch); err != nil {
			return err
		}
		if err := p.at("versions"); err != nil {
			return err
		}
		if err := p.transaction("drop versions", func() error { return p.dropVersions(batch) }); err != nil {
			return err
		}
	}
}

// staleVersions reads the versions of a run, those of nodes above node, that are to go. last is the last node that was looked
// at; 0: there was none.
func (p *pruner) staleVersions(g gap, run, node int64) (batch []staleVersion, last int64, err error) {
	err = p.s.query(`SELECT v.node, v.content, ifnull(n.born, 0), ifnull(o.run, 0), o.content FROM versions v LEFT JOIN nodes n ON n.id = v.node
		LEFT JOIN versions o ON o.node = v.node AND o.run = (SELECT max(run) FROM versions WHERE node = v.node AND run < ?1)
		WHERE v.run = ?1 AND v.node > ?2 ORDER BY v.node LIMIT ?3`, func(row *sqlite.Stmt) error {
		last = row.ColumnInt64(0)
		v := staleVersion{node: last, run: run, content: row.ColumnInt64(1), older: row.ColumnInt64(3), olderContent: row.ColumnInt64(4)}
		if g.before == 0 || max(row.ColumnInt64(2), v.older) > g.before {
			batch = append(batch, v)
		}
		return nil
	}, run, node, versionBatch)
	return batch, last, catalogError("read versions", err)
}

// handOver gives the objects of a batch that older rows lean on a second name with those. What cannot have a second name
// stays, with its row.
func (p *pruner) handOver(batch []staleVersion) (out []staleVersion, err error) {
	linked := false
	for _, v := range batch {
		if v.content == contentObject {
			if v.bytes, err = p.s.bytesOf(v); err != nil {
				return nil, err
			}
		}
		if v.content == contentObject && v.leaned() && !p.dry {
			if err := p.at("hand over"); err != nil {
				return nil, err
			}
			err := p.s.giveTo(v)
			if errors.Is(err, unix.EMLINK) {
				continue
			}
			if err != nil {
				return nil, err
			}
			linked = true
		}
		out = append(out, v)
	}
	if !linked {
		return out, nil
	}
	return out, p.s.history_.SyncFS()
}

// giveTo links an object to where the row before it has its own, or, if that has saved ranges, to where other such are.
func (s *Store) giveTo(v staleVersion) error {
	dir := fmt.Sprintf("r%d", v.older)
	to := fmt.Sprintf("%s/%d", dir, v.node)
	if v.olderContent == contentSaved {
		to = savedName(v.run, v.node)
	} else if err := s.history_.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	err := beneath.Link(s.history_, fmt.Sprintf("r%d/%d", v.run, v.node), s.history_, to)
	if errors.Is(err, fs.ErrExist) || missing(err) { // by an attempt that was cut off; or the object is lost, for both
		return nil
	}
	return err
}

// bytesOf is what an object takes that has no other name, or may have that of a hand-over that was cut off. It may be
// missing: a run could not keep it.
func (s *Store) bytesOf(v staleVersion) (int64, error) {
	st, err := s.top.Lstat(historyPath(v.run, v.node))
	if missing(err) || err == nil && (st.Nlink > 2 || st.Nlink == 2 && !v.leaned()) {
		return 0, nil
	}
	if err != nil || st.Size < minClone {
		return st.Blocks * 512, err
	}
	return s.ownBytes(historyPath(v.run, v.node), st.Blocks*512)
}

// ownBytes is what of a file no other shares with it. all is what it takes, for where the filesystem does not tell.
func (s *Store) ownBytes(path string, all int64) (own int64, err error) {
	fd, err := s.top.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return all, ignoreMissing(err)
	}
	defer unix.Close(fd)
	err = fiemap.Each(fd, 0, math.MaxInt64, false, func(e fiemap.Extent) bool {
		if e.Flags&fiemap.Shared == 0 {
			own += int64(e.Length)
		}
		return true
	})
	if err != nil {
		return all, nil
	}
	return min(own, all), nil
}

// dropVersions removes rows, and nodes of which nothing is left.
func (p *pruner) dropVersions(batch []staleVersion) error {
	for _, v := range batch {
		switch {
		case v.leaned() && (v.content == contentSaved || v.olderContent == contentSaved):
			if err := errors.Join(p.handOverSaved(&v), p.s.staleManifest(v.older)); err != nil {
				return err
			}
		case v.leaned():
			if err := p.s.exec(`UPDATE versions SET content = ? WHERE node = ? AND run = ?`, v.content, v.node, v.older); err != nil {
				return err
			}
			if err := p.s.staleManifest(v.older); err != nil {
				return err
			}
			if err := errors.Join(p.s.charge(v.run, -v.bytes), p.s.charge(v.older, v.bytes)); err != nil {
				return err
			}
			v.bytes = 0
		}
		if v.content == contentSaved {
			if err := p.dropSaved(v); err != nil {
				return err
			}
		}
		if v.content == contentObject {
			if err := p.s.exec(`INSERT OR REPLACE INTO trash(run, node, bytes) VALUES (?, ?, ?)`, v.run, v.node, v.bytes); err != nil {
				return err
			}
		}
		if err := p.s.exec(`DELETE FROM versions WHERE node = ? AND run = ?`, v.node, v.run); err != nil {
			return err
		}
		err := p.s.exec(`DELETE FROM nodes WHERE id = ?1 AND NOT alive AND NOT EXISTS (SELECT 1 FROM versions WHERE node = ?1)`, v.node)
		if err != nil {
			return err
		}
	}
	return nil
}

// charge adds to the space of the run that has the history of another on its account: the first kept one not before it.
func (s *Store) charge(run, bytes int64) error {
	if bytes == 0 {
		return nil
	}
	return s.exec(`UPDATE runs SET space = max(0, space + ?1) WHERE id = (SELECT min(id) FROM runs WHERE id >= ?2 AND state = 'done')`, bytes, run)
}

// emptyTrash removes the objects that no row needs.
func (p *pruner) emptyTrash() error {
	m := meter{tell: p.opts.Progress, doing: "removing what no restore point needs"}
	if m.tell != nil {
		count, err := p.s.numbers(`SELECT count(*) FROM trash`)
		if err != nil {
			return err
		}
		m.ofNames.Store(count[0])
	}
	for {
		var objects []staleVersion
		err := p.s.query(`SELECT run, node, bytes FROM trash LIMIT ?`, func(row *sqlite.Stmt) error {
			objects = append(objects, staleVersion{run: row.ColumnInt64(0), node: row.ColumnInt64(1), bytes: row.ColumnInt64(2)})
			return nil
		}, versionBatch)
		if err != nil || len(objects) == 0 {
			return catalogError("read what is to be removed", err)
		}
		var freed []fileSum
		for _, o := range objects {
			if err := p.at("remove"); err != nil {
				return err
			}
			if st, err := p.s.top.Lstat(historyPath(o.run, o.node)); err == nil && st.Nlink == 1 {
				freed = append(freed, fileSum{ino: st.Ino})
			}
			if err := ignoreMissing(p.s.top.Unlink(historyPath(o.run, o.node))); err != nil {
				return err
			}
			m.add(1, 0)
		}
		if err := p.s.history_.SyncFS(); err != nil {
			return err
		}
		if err := p.at("removed"); err != nil {
			return err
		}
		if err := p.s.transaction("note what was removed", func() error { return errors.Join(p.removed(objects), p.s.setSums(freed)) }); err != nil {
			return err
		}
	}
}

// removed takes objects off the trash.
func (p *pruner) removed(objects []staleVersion) error {
	for _, o := range objects {
		if err := p.s.exec(`DELETE FROM trash WHERE run = ? AND node = ?`, o.run, o.node); err != nil {
			return err
		}
		if err := p.s.charge(o.run, -o.bytes); err != nil {
			return err
		}
		p.done.Freed += o.bytes
	}
	return nil
}

// removeEmpty removes directories of history in which nothing is left that a row needs. What runs found in the mirror and
// nobody knew goes with the oldest restore point.
func (p *pruner) removeEmpty(g gap) error {
	var dirs []string
	err := p.s.history_.ReadDir("", func(name string, _ uint8, _ uint64) error {
		run, err := strconv.ParseInt(strings.TrimPrefix(name, "r"), 10, 64)
		if err == nil && run > g.beforeFirst() && (run < g.after || run == g.after && g.before == 0) {
			dirs = append(dirs, name)
		}
		return nil
	})
	for _, dir := range dirs {
		err = errors.Join(err, p.removeDir(dir, g.before == 0))
	}
	return err
}

func (p *pruner) removeDir(dir string, foreignToo bool) error {
	var others []string
	needed := false
	err := p.s.history_.ReadDir(dir, func(name string, _ uint8, _ uint64) error {
		if name == manifestName {
			return nil
		}
		others = append(others, dir+"/"+name)
		needed = needed || !(strings.HasPrefix(name, "foreign-") && foreignToo)
		return nil
	})
	if err != nil || needed {
		return err
	}
	manifest := false
	run, err := strconv.ParseInt(strings.TrimPrefix(dir, "r"), 10, 64)
	if err != nil {
		return nil
	}
	err = p.s.query(`SELECT `+manifestBefore+` = ?1 - 1`, func(row *sqlite.Stmt) error { manifest = row.ColumnBool(0); return nil }, run+1)
	if err != nil || manifest && len(others) == 0 {
		return err
	}
	if err := p.at("remove directory"); err != nil {
		return err
	}
	if !manifest {
		others = append(others, dir+"/"+manifestName)
	}
	for _, path := range others {
		if err := removeTree(p.s.history_, path); err != nil {
			return err
		}
	}
	if manifest {
		return nil
	}
	return p.s.history_.Rmdir(dir)
}

// removeTree removes a path and all below it.
func removeTree(root *beneath.Root, path string) error {
	err := root.Unlink(path)
	if !errors.Is(err, unix.EISDIR) {
		return ignoreMissing(err)
	}
	var names []string
	if err := root.ReadDir(path, func(name string, _ uint8, _ uint64) error { names = append(names, name); return nil }); err != nil {
		return err
	}
	for _, name := range names {
		if err := removeTree(root, path+"/"+name); err != nil {
			return err
		}
	}
	return root.Rmdir(path)
}

// forget ends the prune of a restore point. What keeps others from dropping it is of no use any more.
func (p *pruner) forget(run int64) error {
	if err := p.at("end"); err != nil {
		return err
	}
	if err := p.s.removeLease(run); err != nil {
		return err
	}
	return catalogError("end the prune", p.s.exec(`DELETE FROM pruning WHERE run = ?`, run))
}
