package apply

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// TarOptions of an archive.
type TarOptions struct {
	// Skipped, when set, is told what an archive cannot hold: sockets.
	Skipped func(path string)
	// Searching is as in Comparison.Paths.
	Searching func(files int)
	// Progress, when set, is told now and then how far it is.
	Progress func(Progress)
}

// Tar writes the file or subtree at path of the view, "" for all, to w as a pax archive with all that counts as equal: contents, holes,
// hard links, owner, mode, times to the nanosecond, extended attributes and ACLs. Names are relative to the source's top directory,
// which itself is "./". Without an error the archive is complete. Memory grows with the files that have several names, not
// with the tree.
func (v *View) Tar(ctx context.Context, w io.Writer, path string, o TarOptions) error {
	f, err := v.Lookup(path)
	if err != nil {
		return err
	}
	t := newArchive(ctx, v, w, o)
	defer t.done.count(ctx, v, f)()
	if err := t.tree(f, path); err != nil {
		return err
	}
	return t.close()
}

// Tar writes what a copy of the older restore point needs to become the newer one (see Paths, with the directories that hold
// it) to w as View.Tar does: only what is at path or below.
func (c *Comparison) Tar(ctx context.Context, w io.Writer, path string, o TarOptions) error {
	t := newArchive(ctx, c.view, w, o)
	err := c.files(ctx, o.Searching, withDirs(func(at string, f *ViewFile) error {
		if !IsBelow(at, path) {
			return nil
		}
		if f == nil {
			found, err := c.view.Lookup(at)
			if err != nil {
				return err
			}
			f = &found
		}
		return t.file(*f, at)
	}))
	if err != nil {
		return err
	}
	return t.close()
}

// restoredLink is an inode with several names of which at least one is in the archive.
type restoredLink struct {
	path string
	left uint32 // names that have not been met; some may lie outside of the subtree
}

// archive is an archive being written.
type archive struct {
	ctx   context.Context
	view  *View
	w     *bufio.Writer
	o     TarOptions
	done  meter
	links map[uint64]*restoredLink
}

func newArchive(ctx context.Context, v *View, w io.Writer, o TarOptions) *archive {
	return &archive{ctx: ctx, view: v, w: bufio.NewWriterSize(w, copyBuffer), o: o, done: meter{tell: o.Progress, doing: "writing the archive"},
		links: make(map[uint64]*restoredLink)}
}

// close ends the archive: two empty blocks.
func (t *archive) close() error {
	if _, err := t.w.WriteString(strings.Repeat("\x00", 2*paxBlock)); err != nil {
		return err
	}
	return t.w.Flush()
}

func (t *archive) tree(f ViewFile, path string) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	if err := t.file(f, path); err != nil || f.Type != unix.S_IFDIR {
		return err
	}
	files, err := t.view.ReadDir(f)
	if err != nil {
		return err
	}
	for _, child := range files {
		if err := t.tree(child, join(path, child.Name)); err != nil {
			return err
		}
	}
	return nil
}

// file writes one entry.
func (t *archive) file(f ViewFile, path string) error {
	if f.Type == unix.S_IFSOCK {
		if t.o.Skipped != nil {
			t.o.Skipped(path)
		}
		return nil
	}
	in, err := t.view.inspect(f)
	if err != nil {
		return tarError(path, err)
	}
	defer in.close()
	defer t.done.add(1, 0)
	attr := in.attr
	e := paxEntry{name: path, mode: attr.Mode & 0o7777, uid: attr.UID, gid: attr.GID, mtime: attr.MtimeSec, nsec: attr.MtimeNsec}
	if first := t.linked(attr, path); first != "" {
		e.kind, e.link = paxLink, first
		return tarError(path, e.writeHeader(t.w))
	}
	if e.records, err = xattrRecords(in.xattrs); err != nil {
		return tarError(path, err)
	}
	switch f.Type {
	case unix.S_IFREG:
		return tarError(path, t.regular(in.file, &e))
	case unix.S_IFDIR:
		if e.kind, e.name = paxDir, path+"/"; path == "" {
			e.name = "./"
		}
	case unix.S_IFLNK:
		e.kind, e.link = paxSymlink, in.target
	case unix.S_IFIFO:
		e.kind = paxFifo
	default:
		if e.kind = paxChar; f.Type == unix.S_IFBLK {
			e.kind = paxBlockDev
		}
		e.major, e.minor = unix.Major(attr.Rdev), unix.Minor(attr.Rdev)
	}
	return tarError(path, e.writeHeader(t.w))
}

func tarError(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("archive %q: %w", path, err)
}

// linked gives the name that the archive has already of a file with several; "" when this is the first.
func (t *archive) linked(attr ViewAttr, path string) string {
	if attr.IsDir() || attr.Nlink < 2 {
		return ""
	}
	first := t.links[attr.Ino]
	if first == nil {
		t.links[attr.Ino] = &restoredLink{path, attr.Nlink - 1}
		return ""
	}
	if first.left--; first.left == 0 {
		delete(t.links, attr.Ino)
	}
	return first.path
}

// xattrRecords gives the records of extended attributes. ACLs are text, as all of tar, bsdtar and star want them.
func xattrRecords(list []beneath.Xattr) (records []paxRecord, err error) {
	for _, x := range list {
		r := paxRecord{"SCHILY.xattr." + paxKey(x.Name), string(x.Value)}
		switch x.Name {
		case "system.posix_acl_access":
			r.key = "SCHILY.acl.access"
			r.value, err = aclText(x.Value)
		case "system.posix_acl_default":
			r.key = "SCHILY.acl.default"
			r.value, err = aclText(x.Value)
		}
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

// regular writes a regular file; one with holes in GNU's sparse format 1.0: before the data comes a map of it, decimal numbers
// on lines of their own, in whole blocks: how many parts, then offset and size of each.
func (t *archive) regular(in *Contents, e *paxEntry) error {
	parts, err := in.Data()
	if err != nil {
		return err
	}
	e.kind, e.size = paxRegular, in.Size()
	sparse := ""
	if e.size > 0 && (len(parts) != 1 || parts[0].Len != e.size) {
		sparse = e.makeSparse(parts)
	}
	if err := e.writeHeader(t.w); err != nil {
		return err
	}
	if _, err := t.w.WriteString(sparse); err != nil {
		return err
	}
	for _, p := range parts {
		if err := t.copy(in, p); err != nil {
			return err
		}
	}
	_, err = t.w.WriteString(padding(e.size))
	return err
}

// copy writes one part of a file.
func (t *archive) copy(in *Contents, p diff.Range) error {
	for p.Len > 0 {
		if err := t.ctx.Err(); err != nil {
			return err
		}
		n := min(p.Len, 16*copyBuffer)
		if _, err := io.CopyN(t.w, io.NewSectionReader(in, p.Off, n), n); err == io.EOF {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
		p.Off, p.Len = p.Off+n, p.Len-n
		t.done.add(0, n)
	}
	return nil
}

// makeSparse turns the entry of a file into that of a sparse one and gives the map.
func (e *paxEntry) makeSparse(parts []diff.Range) (sparse string) {
	size, data := e.size, int64(0)
	var b strings.Builder
	number := func(n int64) { b.WriteString(strconv.FormatInt(n, 10) + "\n") }
	last := diff.Range{}
	if len(parts) > 0 {
		last = parts[len(parts)-1]
	}
	ends := last.Off+last.Len == size
	if n := int64(len(parts)); ends {
		number(n)
	} else {
		number(n + 1)
	}
	for _, p := range parts {
		number(p.Off)
		number(p.Len)
		data += p.Len
	}
	if !ends { // an empty part at the end says where that is
		number(size)
		number(0)
	}
	sparse = b.String() + padding(int64(b.Len()))
	e.records = append(e.records, paxRecord{"GNU.sparse.major", "1"}, paxRecord{"GNU.sparse.minor", "0"},
		paxRecord{"GNU.sparse.name", e.name}, paxRecord{"GNU.sparse.realsize", strconv.FormatInt(size, 10)})
	e.name = "GNUSparseFile.0/" + lastName(e.name) // what a program that does not know the format calls it
	e.size = int64(len(sparse)) + data
	return sparse
}
