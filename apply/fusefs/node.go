package fusefs

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/snapshot/beneath"
)

// node is one inode of a restore point. It holds no more than where to look.
type node struct {
	gofs.Inode
	point  *point
	file   apply.ViewFile
	forget *forgetter
	opened *handles
	known  atomic.Pointer[[]beneath.Xattr] // see xattrs

	opening sync.Mutex
	asked   int // open files that are read through us
}

var (
	_ gofs.NodeLookuper        = (*node)(nil)
	_ gofs.NodeOpendirHandler  = (*node)(nil)
	_ gofs.NodeGetattrer       = (*node)(nil)
	_ gofs.NodeReadlinker      = (*node)(nil)
	_ gofs.NodeGetxattrer      = (*node)(nil)
	_ gofs.NodeListxattrer     = (*node)(nil)
	_ gofs.NodeOpener          = (*node)(nil)
	_ gofs.NodeFlusher         = (*node)(nil)
	_ gofs.FileReader          = (*handle)(nil)
	_ gofs.FileLseeker         = (*handle)(nil)
	_ gofs.FileReleaser        = (*handle)(nil)
	_ gofs.FilePassthroughFder = (*handle)(nil)
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
	return n.child(ctx, f, attr, out), 0
}

// child makes the inode of a file that was found in this directory.
func (n *node) child(ctx context.Context, f apply.ViewFile, attr apply.ViewAttr, out *fuse.EntryOut) *gofs.Inode {
	n.point.setAttr(&out.Attr, attr)
	child := n.NewInode(ctx, &node{point: n.point, file: f, forget: n.forget, opened: n.opened}, gofs.StableAttr{Ino: out.Ino, Gen: f.Generation(), Mode: attr.Type()})
	n.forget.add(child)
	return child
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

// xattrs are the extended attributes. The kernel does not keep them, and a program that copies asks several times.
func (n *node) xattrs() ([]beneath.Xattr, syscall.Errno) {
	if known := n.known.Load(); known != nil {
		return *known, 0
	}
	view, done, err := n.point.use()
	if err != nil {
		return nil, errno(err)
	}
	defer done()
	list, err := view.Xattrs(n.file)
	if err != nil {
		return nil, errno(err)
	}
	const few = 512 // bytes: 50,000 inodes are kept
	size := 0
	for _, x := range list {
		size += len(x.Name) + len(x.Value)
	}
	switch {
	case size == 0:
		n.known.Store(&noXattrs)
	case size <= few:
		n.known.Store(&list)
	}
	return list, 0
}

// noXattrs is what all files without extended attributes have.
var noXattrs []beneath.Xattr

// Getxattr gives one extended attribute.
func (n *node) Getxattr(_ context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	list, err := n.xattrs()
	if err != 0 {
		return 0, err
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
	list, err := n.xattrs()
	if err != 0 {
		return 0, err
	}
	var names []byte
	for _, x := range list {
		names = append(append(names, x.Name...), 0)
	}
	return fill(dest, names)
}

// Flush tells the kernel not to call at each close: nothing is ever written.
func (n *node) Flush(context.Context, gofs.FileHandle) syscall.Errno { return unix.ENOSYS }

// Open opens a file. Its pages stay good after it is closed.
func (n *node) Open(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	view, done, err := n.point.use()
	if err != nil {
		return nil, 0, errno(err)
	}
	n.opening.Lock()
	defer n.opening.Unlock()
	file, err := view.Open(n.file)
	if err != nil {
		done()
		return nil, 0, errno(err)
	}
	h := &handle{node: n, file: file, done: done}
	if _, fixed := file.Fixed(); !fixed {
		h.ask()
	}
	n.opened.add(h)
	return h, fuse.FOPEN_KEEP_CACHE, 0
}

// handle is an open file. It says nothing of attributes: those of the file in the store may be of another date.
type handle struct {
	node  *node
	file  *apply.Contents
	asked bool   // counted in node.asked
	done  func() // lets the restore point go
}

// PassthroughFd lets the kernel read the file itself, unless a run may write to it. While it reads an inode through us it refuses
// to read it itself, so one that was opened before a run made it fixed goes on as it was.
func (h *handle) PassthroughFd() (int, bool) {
	h.node.opening.Lock()
	defer h.node.opening.Unlock()
	if h.node.asked > 0 {
		h.ask() // this one too: the kernel may have it open for longer than a program has, as long as it reads ahead
		return -1, false
	}
	return h.file.Fixed()
}

// ask counts it as read through us. The caller holds node.opening.
func (h *handle) ask() {
	if !h.asked {
		h.asked = true
		h.node.asked++
	}
}

// Read is for kernels that do not read the file themselves. Large pieces do not move through this process; with small ones that would
// take longer.
func (h *handle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if fd, fixed := h.file.Fixed(); fixed && len(dest) > smallRead {
		return fuse.ReadResultFd(uintptr(fd), off, len(dest)), 0
	}
	n, err := h.file.ReadAt(dest, off)
	if err != nil && err != io.EOF {
		return nil, errno(err)
	}
	return fuse.ReadResultData(dest[:n]), 0
}

// smallRead is the size of reads that are answered by copying, in bytes.
const smallRead = 16 << 10

// Lseek finds data and holes.
func (h *handle) Lseek(_ context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	n, err := h.file.Lseek(int64(off), int(whence))
	return uint64(n), errno(err)
}

// Release closes the file.
func (h *handle) Release(context.Context) syscall.Errno {
	if !h.node.opened.remove(h) {
		return 0
	}
	return errno(h.close())
}

func (h *handle) close() error {
	if h.asked {
		h.node.opening.Lock()
		h.node.asked--
		h.node.opening.Unlock()
	}
	h.done()
	return h.file.Close()
}
