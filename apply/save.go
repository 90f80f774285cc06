package apply

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// patched is a file that the run patches in place.
type patched struct {
	node   int64
	ino    uint64       // in the mirror; 0: it was found altered there, and is replaced
	failed string       // why it could not be patched and has its old contents again
	saved  []savedRange // what of its old contents is kept
	fresh  bool         // this was found out just now: nothing has been written to it since
}

// save decides which files are patched in place and keeps what of them is going to be overwritten. It touches no file of the
// mirror, so all of it can be done again; what it keeps counts from the mark that follows. A file is patched when
//
//   - the mirror's filesystem cannot clone and knows holes (see patchesInPlace),
//   - it is large before and after (minPatched), it is known which ranges differ, and they are at most half of it and at most
//     mostSaved,
//   - it is in the mirror what it was in the base by inode, size and time, and has no names but those of the base: none in
//     history above all.
//
// Of the ranges only the blocks that differ are kept and patched: those that a filesystem tells may be larger (records of ZFS).
func (x *execution) save() error {
	in, err := patchesInPlace(x.s.tree)
	if err != nil || !in {
		return err
	}
	if x.resumed {
		if err := x.dropUnsaved(); err != nil {
			return err
		}
	}
	var files []*diff.Inode
	for i := range x.plan.Inodes {
		f := &x.plan.Inodes[i]
		if x.patches[f.Key] == nil && !x.lost[f.Key] && largeChange(f) && !x.plan.fromMirror[f.Key] {
			files = append(files, f)
		}
	}
	return x.each(len(files), func(i int) error {
		p, err := x.saveFile(files[i])
		if p == nil || err != nil {
			return err
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		x.patches[files[i].Key] = p
		return nil
	})
}

// largeChange tells a large file that exists in both snapshots of which little changed.
func largeChange(in *diff.Inode) bool {
	return in.What&(diff.New|diff.Data) == diff.Data && in.Attr.IsRegular() && in.Ranges != nil &&
		min(in.Attr.Size, in.BaseAttr.Size) >= minPatched && pays(touched(in), in.BaseAttr.Size)
}

// pays tells that a file of a size is better patched than copied: not more is written for it, and it leaves less in history.
func pays(ranges []diff.Range, size int64) bool {
	return sumOfRanges(ranges) <= size/2 && len(ranges) <= mostSaved
}

// touched are the parts of the old file that a patch may overwrite or cut off, in whole blocks, ascending.
func touched(in *diff.Inode) (out []diff.Range) {
	size := in.BaseAttr.Size
	add := func(off, end int64) {
		off, end = off/holeBlock*holeBlock, min(roundUp(end), size)
		if n := len(out) - 1; n >= 0 && out[n].Off+out[n].Len >= off {
			out[n].Len = max(out[n].Len, end-out[n].Off)
		} else if off < end {
			out = append(out, diff.Range{Off: off, Len: end - off})
		}
	}
	for _, r := range in.Ranges {
		add(r.Off, r.Off+r.Len)
	}
	if in.Attr.Size < size {
		add(in.Attr.Size, size)
	}
	return out
}

// saveFile keeps the old bytes of one file; nil if it is not to be patched.
func (x *execution) saveFile(in *diff.Inode) (*patched, error) {
	if err := x.at("save"); err != nil {
		return nil, err
	}
	home, err := x.home(in)
	if home == 0 || err != nil {
		return nil, err
	}
	p := &patched{node: x.nodes[in.Key], ino: home, fresh: true}
	ok, err := x.saveRanges(in, p)
	if IsBadFile(err) {
		ok, err = false, nil // it is copied whole, which meets the error again and tells it
	}
	if !ok {
		return nil, errors.Join(err, ignoreMissing(x.s.history_.Unlink(savedName(x.run, p.node))))
	}
	return p, nil
}

// home is the number of the inode that a file has in the mirror; 0 if it is not what it was in the base, or has other names than in the
// base.
func (x *execution) home(in *diff.Inode) (ino uint64, err error) {
	for _, path := range in.BasePaths {
		st, err := x.s.tree.Lstat(path)
		if missing(err) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		if !isFormer(&st, in.BaseAttr) || int(st.Nlink) != len(in.BasePaths) || ino != 0 && ino != st.Ino {
			return 0, nil
		}
		ino = st.Ino
	}
	return ino, nil
}

// saveRanges writes the object. false: so much changed that it does not pay.
func (x *execution) saveRanges(in *diff.Inode, p *patched) (bool, error) {
	// In the mirror is the same: nothing has been changed in it yet.
	base := x.base
	if base == nil {
		base = x.s.tree
	}
	was, release, err := openForReading(base, in.BasePaths[0], in.BaseAttr.Size)
	if err != nil {
		return false, err
	}
	defer release()
	is, release, err := openForReading(x.next, in.Paths[0], in.Attr.Size)
	if err != nil {
		return false, err
	}
	defer release()
	buf, other := x.build.buffers.Get().(*[]byte), x.build.buffers.Get().(*[]byte)
	defer x.build.buffers.Put(buf)
	defer x.build.buffers.Put(other)
	c := blockCompare{was: was, is: is, size: in.Attr.Size, a: *buf, b: *other}
	differ, err := c.differing(touched(in))
	if err != nil || !pays(differ, in.BaseAttr.Size) {
		return false, readError(in.Paths[0], "compare", err)
	}
	if len(differ) == 0 {
		return true, nil
	}
	name := savedName(x.run, p.node)
	out, err := x.s.history_.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return false, err
	}
	defer unix.Close(out)
	if err := unix.Ftruncate(out, in.BaseAttr.Size); err != nil {
		return false, writeError(name, "set the size of", err)
	}
	to := copier{in: x.build.reader.File(was, in.BaseAttr.Size), src: was, out: out, path: in.BasePaths[0], buf: *buf, pace: x.build.pace}
	defer to.in.Done()
	for _, r := range differ {
		if err := to.segments(r.Off, r.Off+r.Len, to.span, func(int64, int64) error { return nil }); err != nil {
			return false, err
		}
		p.saved = append(p.saved, savedRange{r, x.run})
	}
	return true, nil
}

// openForReading opens a regular file of a known size to read here and there in it.
func openForReading(root *beneath.Root, path string, size int64) (fd int, release func(), err error) {
	at, done, err := place{root, path}.open()
	if err != nil {
		return -1, nil, readError(path, "open the directory of", err)
	}
	defer done()
	if fd, err = openQuiet(at, unix.O_RDONLY); err != nil {
		return -1, nil, readError(path, "open", err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != size) {
		err = errShort
	}
	if err != nil {
		unix.Close(fd)
		return -1, nil, readError(path, "stat", err)
	}
	// Blocks that are allocated and not written look like data once reading ahead has met them. Advice only: no error matters.
	unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM)
	return fd, func() { unix.Close(fd) }, nil
}

// blockCompare finds the blocks in which two open files differ, by bytes or because one has a hole there.
type blockCompare struct {
	was, is int
	size    int64 // of is
	a, b    []byte
	out     []diff.Range
}

// differing gives the blocks of the ranges that differ, ascending. What is behind the end of the new file does.
func (c *blockCompare) differing(ranges []diff.Range) ([]diff.Range, error) {
	type both struct{ was, is []diff.Range }
	parts := make([]both, len(ranges)) // found before any of it is read, see segments
	for i, r := range ranges {
		var err, err2 error
		parts[i].was, err = dataParts(c.was, r.Off, r.Off+r.Len)
		parts[i].is, err2 = dataParts(c.is, r.Off, min(roundUp(r.Off+r.Len), c.size))
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
	}
	for i, r := range ranges {
		for off, end := r.Off, r.Off+r.Len; off < end; {
			stop := min(off+int64(len(c.a)), end)
			if err := c.compare(off, stop, parts[i].was, parts[i].is); err != nil {
				return nil, err
			}
			off = stop
		}
	}
	return c.out, nil
}

// compare compares one piece. a and b are the parts of the files that are no holes.
func (c *blockCompare) compare(off, end int64, was, is []diff.Range) error {
	common := max(min(end, c.size), off)
	x, y := c.a[:common-off], c.b[:common-off]
	if err := errors.Join(readParts(c.was, x, off, was), readParts(c.is, y, off, is)); err != nil {
		return err
	}
	for at := off; at < end; at += holeBlock {
		stop := min(at+holeBlock, end)
		same := stop <= common && hasData(was, at, stop) == hasData(is, at, stop) && bytes.Equal(x[at-off:stop-off], y[at-off:stop-off])
		if same {
			continue
		}
		if n := len(c.out) - 1; n >= 0 && c.out[n].Off+c.out[n].Len == at {
			c.out[n].Len += stop - at
		} else {
			c.out = append(c.out, diff.Range{Off: at, Len: stop - at})
		}
	}
	return nil
}

// readParts reads what lies at off; what is no part of the data is zeros and not read.
func readParts(fd int, buf []byte, off int64, parts []diff.Range) error {
	clear(buf)
	end := off + int64(len(buf))
	for _, p := range parts[firstBehind(parts, off):] {
		if p.Off >= end {
			break
		}
		from, to := max(p.Off, off), min(p.Off+p.Len, end)
		for from < to {
			n, err := unix.Pread(fd, buf[from-off:to-off], from)
			if err == unix.EINTR {
				continue
			}
			if err == nil && n == 0 {
				err = errShort
			}
			if err != nil {
				return err
			}
			from += int64(n)
		}
	}
	return nil
}

// hasData tells whether any of the parts lies in [off, end).
func hasData(parts []diff.Range, off, end int64) bool {
	i := firstBehind(parts, off)
	return i < len(parts) && parts[i].Off < end
}

// firstBehind is the index of the first part that ends behind off.
func firstBehind(parts []diff.Range, off int64) int {
	i, _ := slices.BinarySearchFunc(parts, off, func(p diff.Range, off int64) int {
		if p.Off+p.Len <= off {
			return -1
		}
		return 1
	})
	return i
}

// markSaved makes what was saved count. Nothing to save needs no mark.
func (x *execution) markSaved() error {
	if len(x.patches) == 0 {
		return nil
	}
	return x.mark(Saved, func() error {
		for _, p := range x.patches {
			if err := x.recordPatch(p); err != nil {
				return err
			}
		}
		return x.s.writeManifest(x.run, nil) // with the saved ranges, before anything is overwritten
	})
}

// recordPatch writes the rows of one file that is to be patched.
func (x *execution) recordPatch(p *patched) error {
	if err := x.s.exec(`INSERT OR IGNORE INTO patches(node, ino) VALUES (?, ?)`, p.node, int64(p.ino)); err != nil {
		return err
	}
	if err := x.s.exec(`UPDATE versions SET content = ? WHERE node = ? AND run = ?`, contentSaved, p.node, x.run); err != nil {
		return err
	}
	return x.s.insertSaved(p.node, x.run, p.saved)
}

// insertSaved writes rows of one version.
func (s *Store) insertSaved(node, run int64, list []savedRange) error {
	for _, r := range list {
		err := s.exec(`INSERT OR REPLACE INTO saved(node, run, off, len, object) VALUES (?, ?, ?, ?, ?)`, node, run, r.Off, r.Len, r.object)
		if err != nil {
			return err
		}
	}
	return nil
}

// readPatches finds the files that an earlier attempt has saved ranges of.
func (x *execution) readPatches() error {
	x.patches = map[diff.Key]*patched{}
	byNode := map[int64]diff.Key{}
	for k, node := range x.nodes {
		byNode[node] = k
	}
	err := x.s.query(`SELECT node, ino, failed FROM patches`, func(row *sqlite.Stmt) error {
		p := &patched{node: row.ColumnInt64(0), ino: uint64(row.ColumnInt64(1)), failed: row.ColumnText(2)}
		k, ok := byNode[p.node]
		if !ok {
			return fmt.Errorf("node %d is to be patched and not in the plan", p.node)
		}
		x.patches[k] = p
		return nil
	})
	for _, p := range x.patches {
		if err != nil {
			break
		}
		p.saved, err = readSaved(x.s.query, p.node, x.run)
	}
	return catalogError("read what is patched", err)
}
