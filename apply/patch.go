package apply

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
)

// patch brings the files of which ranges were saved up to the new snapshot, in place. All names are still those of the base. After a
// cut all of it is done again. A file that cannot be read gets its old contents again.
func (x *execution) patch() error {
	files := x.patchedInodes()
	return x.each(len(files), func(i int) error {
		in := files[i]
		p := x.patches[in.Key]
		if p.ino == 0 || p.failed != "" {
			return nil
		}
		err := x.patchFile(in, p)
		if !IsBadFile(err) {
			return err
		}
		x.problem(in.Key, in.Paths[0], err)
		if err := x.unpatch(in, p); err != nil {
			return err
		}
		p.failed = err.Error()
		return nil
	})
}

// patchedInodes are the changed inodes that are patched, in the order of the plan.
func (x *execution) patchedInodes() (list []*diff.Inode) {
	if len(x.patches) == 0 {
		return nil
	}
	for i := range x.plan.Inodes {
		if in := &x.plan.Inodes[i]; x.patches[in.Key] != nil {
			list = append(list, in)
		}
	}
	return list
}

// markPatched also keeps which files could not be patched.
func (x *execution) markPatched() error {
	if len(x.patches) == 0 {
		return nil
	}
	return x.mark(Patched, func() error {
		for _, p := range x.patches {
			if p.failed == "" {
				continue
			}
			if err := x.s.exec(`UPDATE patches SET failed = ? WHERE node = ?`, p.failed, p.node); err != nil {
				return err
			}
		}
		return nil
	})
}

// patchFile writes what differs.
func (x *execution) patchFile(in *diff.Inode, p *patched) error {
	if err := x.at("patch"); err != nil {
		return err
	}
	to, release, err := x.openPatched(in, p)
	if err != nil || to.fd < 0 {
		return err
	}
	p.fresh = false
	defer release()
	src, release, err := place{x.next, in.Paths[0]}.open()
	if err != nil {
		return readError(in.Paths[0], "open the directory of", err)
	}
	defer release()
	fd, release, err := openForReading(x.next, in.Paths[0], in.Attr.Size)
	if err != nil {
		return err
	}
	defer release()
	if err := x.writeRanges(fd, to.fd, in.Paths[0], in.Attr.Size, patchRanges(in, p)); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return readError(in.Paths[0], "stat", err)
	}
	_, err = copyAttributes(node{src, fd}, to, &st)
	return err
}

// patchRanges are the parts of the new file to be written: what was saved, and what the file grew by.
func patchRanges(in *diff.Inode, p *patched) (list []diff.Range) {
	size, old := in.Attr.Size, in.BaseAttr.Size
	for _, r := range cutAt(p.saved, size) {
		list = append(list, r.Range)
	}
	if size > old {
		from := old / holeBlock * holeBlock
		list = append(list, diff.Range{Off: from, Len: size - from})
	}
	return list
}

// writeRanges gives an open file its size and copies ranges into it.
func (x *execution) writeRanges(in, out int, path string, size int64, ranges []diff.Range) error {
	buf := x.build.buffers.Get().(*[]byte)
	defer x.build.buffers.Put(buf)
	c := copier{in: x.build.reader.File(in, size), src: in, out: out, path: path, buf: *buf, pace: x.build.pace}
	defer c.in.Done()
	var st unix.Stat_t
	if err := unix.Fstat(out, &st); err != nil {
		return writeError(path, "stat", err)
	}
	if st.Size != size {
		if err := x.at("patch size"); err != nil {
			return err
		}
		if err := unix.Ftruncate(out, size); err != nil {
			return writeError(path, "set the size of", err)
		}
	}
	for _, r := range ranges {
		if err := errors.Join(x.ctx.Err(), x.at("patch range")); err != nil {
			return err
		}
		if err := c.patchRange(r, size); err != nil {
			return err
		}
	}
	return nil
}

// openPatched opens the file in the mirror for writing, if all its names still mean the inode of which ranges were saved, and
// nobody gave it others or wrote to it before we did. Otherwise it is noted, durably, that the file is to be replaced, and there is no descriptor: -1.
func (x *execution) openPatched(in *diff.Inode, p *patched) (to node, release func(), err error) {
	to.fd = -1
	for _, path := range in.BasePaths {
		st, err := x.s.tree.Lstat(path)
		if err != nil && !missing(err) {
			return to, nil, err
		}
		if err != nil || st.Ino != p.ino || int(st.Nlink) != len(in.BasePaths) || p.fresh && !isFormer(&st, in.BaseAttr) {
			return to, nil, x.giveUpPatch(in, p)
		}
	}
	if to.spot, release, err = (place{x.s.tree, in.BasePaths[0]}).open(); err != nil {
		return to, nil, writeError(in.BasePaths[0], "open the directory of", err)
	}
	fd, err := unix.Openat(to.dir, to.base, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		release()
		return to, nil, writeError(in.BasePaths[0], "open", err)
	}
	to.fd = fd
	closeDir := release
	return to, func() { unix.Close(fd); closeDir() }, nil
}

// giveUpPatch has a file replaced that somebody changed since ranges of it were saved. What was saved is right all the same.
func (x *execution) giveUpPatch(in *diff.Inode, p *patched) error {
	if err := x.alter("%q is not the file that was there", in.BasePaths[0]); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	p.ino = 0
	return catalogError("note what was altered", x.s.exec(`UPDATE patches SET ino = 0 WHERE node = ?`, p.node))
}

// unpatch gives a file the contents and attributes that it had, when all its names are those of the base. What somebody else took
// away is left out.
func (x *execution) unpatch(in *diff.Inode, p *patched) error {
	if p.ino == 0 {
		return nil
	}
	if err := x.at("unpatch"); err != nil {
		return err
	}
	to, release, err := x.openPatched(in, p)
	if err != nil || to.fd < 0 {
		return err
	}
	defer release()
	object := -1
	if len(p.saved) > 0 {
		name := savedName(x.run, p.node)
		if object, err = x.s.history_.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW, 0); err != nil {
			return err
		}
		defer unix.Close(object)
	}
	ranges := make([]diff.Range, len(p.saved))
	for i, r := range p.saved {
		ranges[i] = r.Range
	}
	if err := x.writeRanges(object, to.fd, in.BasePaths[0], in.BaseAttr.Size, ranges); err != nil {
		return err
	}
	return x.formerAttributes(to, p.node)
}

// formerAttributes sets what the run recorded of a file.
func (x *execution) formerAttributes(to node, id int64) error {
	var a ViewAttr
	var blob []byte
	err := x.s.query(`SELECT mode, uid, gid, mtime_s, mtime_n, size, xattrs FROM versions WHERE node = ? AND run = ?`, func(row *sqlite.Stmt) error {
		a.Attr = diff.Attr{Mode: uint32(row.ColumnInt64(0)), UID: uint32(row.ColumnInt64(1)), GID: uint32(row.ColumnInt64(2)),
			MtimeSec: row.ColumnInt64(3), MtimeNsec: int32(row.ColumnInt64(4)), Size: row.ColumnInt64(5)}
		blob = []byte(columnBytes(row, 6))
		return nil
	}, id, x.run)
	if err != nil {
		return catalogError("read what a file was", err)
	}
	list, err := decodeXattrs(blob)
	if err != nil {
		return err
	}
	return setAttributes(to, &a, list)
}

// unpatchAll undoes all patches of a run that is given up, and makes that durable. Names must be those of the base.
func (x *execution) unpatchAll() error {
	files := x.patchedInodes()
	if len(files) == 0 {
		return x.dropUnsaved()
	}
	for _, in := range files {
		if err := x.unpatch(in, x.patches[in.Key]); err != nil {
			return err
		}
	}
	if err := x.sync(); err != nil {
		return err
	}
	err := x.s.transaction("note what was undone", func() error {
		for _, p := range x.patches {
			if err := x.forgetPatch(p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for k, p := range x.patches {
		if p.ino != 0 {
			delete(x.patches, k)
		}
	}
	return x.dropUnsaved()
}

// dropUnsaved removes objects that an attempt which was cut off left and no row speaks of.
func (x *execution) dropUnsaved() error {
	needed := map[string]bool{}
	for _, p := range x.patches {
		needed[nodeName(p.node)+savedSuffix] = true
	}
	var left []string
	err := x.s.history_.ReadDir(x.history(), func(name string, _ uint8, _ uint64) error {
		if strings.HasSuffix(name, savedSuffix) && !needed[name] {
			left = append(left, name)
		}
		return nil
	})
	for _, name := range left {
		err = errors.Join(err, x.s.history_.Unlink(x.history()+"/"+name))
	}
	return err
}

// forgetPatch takes out the rows of a file that has its old contents again. One that was altered keeps them: they are right.
func (x *execution) forgetPatch(p *patched) error {
	if p.ino == 0 {
		return nil
	}
	err := x.s.noContent(p.node, x.run)
	return errors.Join(err, x.s.exec(`DELETE FROM saved WHERE node = ? AND run = ?`, p.node, x.run), x.s.exec(`DELETE FROM patches WHERE node = ?`, p.node))
}

// replacesPatched tells that an inode was to be patched and is replaced: nothing of the old one is kept but what was saved.
func (x *execution) replacesPatched(k diff.Key) bool {
	p := x.patches[k]
	return p != nil && p.ino == 0
}

// isPatched tells that an inode has its new contents, or could not get them, before any name is moved.
func (x *execution) isPatched(k diff.Key) bool { p := x.patches[k]; return p != nil && p.ino != 0 }

// sayFailed tells again what an earlier attempt could not patch.
func (x *execution) sayFailed() {
	for _, in := range x.patchedInodes() {
		if p := x.patches[in.Key]; p.failed != "" {
			x.problem(in.Key, in.Paths[0], &BadFile{Path: in.Paths[0], Op: "patch", Err: errors.New(p.failed)})
		}
	}
}
