package fusefs

import (
	"context"
	"io"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"snapdiff/apply"
)

// node is one inode of a restore point. It holds no more than where to look.
type node struct {
	gofs.Inode
	point  *point
	file   apply.ViewFile
	forget *forgetter
}

var (
	_ gofs.NodeLookuper        = (*node)(nil)
	_ gofs.NodeOpendirHandler  = (*node)(nil)
	_ gofs.NodeGetattrer       = (*node)(nil)
	_ gofs.NodeReadlinker      = (*node)(nil)
	_ gofs.NodeGetxattrer      = (*node)(nil)
	_ gofs.NodeListxattrer     = (*node)(nil)
	_ gofs.NodeOpener          = (*node)(nil)
	_ gofs.FileReader          = (*handle)(nil)
	_ gofs.FileLseeker         = (*handle)(nil)
	_ gofs.FileReleaser        = (*handle)(nil)
	_ gofs.FilePassthroughFder = (*handle)(nil)
	_ gofs.FileReaddirenter    = (*dirHandle)(nil)
	_ gofs.FileSeekdirer       = (*dirHandle)(nil)
)

// Lookup finds a name in a directory.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	view, done, err := n.point.use()
	if err != nil {
		return nil, errno(err)
	}
	defer done()
	f, attr, err := view.ChildAttr(n.file, name)
	if err != nil {
		return nil, errno(err)
	}
	n.point.setAttr(&out.Attr, attr)
	child := n.NewInode(ctx, &node{point: n.point, file: f, forget: n.forget}, gofs.StableAttr{Ino: out.Ino, Mode: attr.Type()})
	n.forget.add(child)
	return child, 0
}

// Getattr gives the attributes.
func (n *node) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	view, done, err := n.point.use()
	if err != nil {
		return errno(err)
	}
	defer done()
	attr, err := view.Lstat(n.file)
	if err == nil {
		n.point.setAttr(&out.Attr, attr)
	}
	return errno(err)
}

// Readlink gives the target of a symlink.
func (n *node) Readlink(context.Context) ([]byte, syscall.Errno) {
	view, done, err := n.point.use()
	if err != nil {
		return nil, errno(err)
	}
	defer done()
	target, err := view.Readlink(n.file)
	return []byte(target), errno(err)
}

// Getxattr gives one extended attribute.
func (n *node) Getxattr(_ context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	view, done, err := n.point.use()
	if err != nil {
		return 0, errno(err)
	}
	defer done()
	list, err := view.Xattrs(n.file)
	if err != nil {
		return 0, errno(err)
	}
	for _, x := range list {
		if x.Name == name {
			return fill(dest, x.Value)
		}
	}
	return 0, unix.ENODATA
}

// Listxattr gives the names of the extended attributes.
func (n *node) Listxattr(_ context.Context, dest []byte) (uint32, syscall.Errno) {
	view, done, err := n.point.use()
	if err != nil {
		return 0, errno(err)
	}
	defer done()
	list, err := view.Xattrs(n.file)
	if err != nil {
		return 0, errno(err)
	}
	var names []byte
	for _, x := range list {
		names = append(append(names, x.Name...), 0)
	}
	return fill(dest, names)
}

// Open opens a file. Its pages stay good after it is closed.
func (n *node) Open(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	view, done, err := n.point.use()
	if err != nil {
		return nil, 0, errno(err)
	}
	file, err := view.Open(n.file)
	if err != nil {
		done()
		return nil, 0, errno(err)
	}
	return &handle{file, done}, fuse.FOPEN_KEEP_CACHE, 0
}

// handle is an open file. It says nothing of attributes: those of the file in the store may be of another date.
type handle struct {
	file *apply.Contents
	done func() // lets the restore point go
}

// PassthroughFd lets the kernel read the file itself, unless a run may write to it.
func (h *handle) PassthroughFd() (int, bool) { return h.file.Fixed() }

// Read reads without moving bytes through this process where the kernel can do that.
func (h *handle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if fd, fixed := h.file.Fixed(); fixed {
		return fuse.ReadResultFd(uintptr(fd), off, len(dest)), 0
	}
	n, err := h.file.ReadAt(dest, off)
	if err != nil && err != io.EOF {
		return nil, errno(err)
	}
	return fuse.ReadResultData(dest[:n]), 0
}

// Lseek finds data and holes.
func (h *handle) Lseek(_ context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	n, err := h.file.Lseek(int64(off), int(whence))
	return uint64(n), errno(err)
}

// Release closes the file.
func (h *handle) Release(context.Context) syscall.Errno {
	h.done()
	return errno(h.file.Close())
}

// OpendirHandle lists a directory. The kernel may keep the list.
func (n *node) OpendirHandle(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	view, done, err := n.point.use()
	if err != nil {
		return nil, 0, errno(err)
	}
	defer done()
	list, err := view.List(n.file)
	if err != nil {
		return nil, 0, errno(err)
	}
	return &dirHandle{list: list}, fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE, 0
}

// dirHandle is an open directory: the offset of an entry is its number, from 1.
type dirHandle struct {
	list *apply.Listing
	next int
}

// Readdirent gives the next entry, nil at the end.
func (d *dirHandle) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	if d.next >= d.list.Len() {
		return nil, 0
	}
	name, kind := d.list.At(d.next)
	d.next++
	return &fuse.DirEntry{Name: name, Mode: kind, Off: uint64(d.next)}, 0
}

// Seekdir goes to where an entry ended.
func (d *dirHandle) Seekdir(_ context.Context, off uint64) syscall.Errno {
	d.next = int(min(off, uint64(d.list.Len())))
	return 0
}
