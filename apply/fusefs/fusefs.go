// Package fusefs shows a view of a restore point as a read-only filesystem.
//
// The past does not change, so the kernel may keep what it was told for as long as it likes.
package fusefs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"snapdiff/apply"
)

// keep is how long the kernel may keep names and attributes.
const keep = time.Hour

// Options of a mount.
type Options struct {
	// AllowOther lets other users than the one who mounts in. The kernel checks owners, modes and ACLs as in the source.
	AllowOther bool
}

// Mount shows view at the directory dir, which must exist. It returns when the mount can be used; the server's Wait
// returns when it has been unmounted. The view must stay open until then.
func Mount(view *apply.View, dir string, opts Options) (*fuse.Server, error) {
	top := view.Root()
	attr, err := view.Lstat(top)
	if err != nil {
		return nil, err
	}
	timeout := keep
	server, err := gofs.Mount(dir, &node{view: view, file: top}, &gofs.Options{
		EntryTimeout: &timeout, AttrTimeout: &timeout, NegativeTimeout: &timeout,
		NullPermissions: true, // a mode of 0 is one
		RootStableAttr:  &gofs.StableAttr{Ino: attr.Ino, Mode: unix.S_IFDIR},
		MountOptions: fuse.MountOptions{
			AllowOther: opts.AllowOther, FsName: fmt.Sprintf("r%d", view.Run()), Name: "snapdiff",
			Options: []string{"default_permissions"}, EnableAcl: true, EnableSymlinkCaching: true, MaxReadAhead: 1 << 20,
			DirectMountStrict: true, DirectMountFlags: unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("mount r%d at %s: %w", view.Run(), dir, err)
	}
	return server, nil
}

// node is one inode of the view. It holds no more than where to look.
type node struct {
	gofs.Inode
	view *apply.View
	file apply.ViewFile
}

var (
	_ gofs.NodeLookuper    = (*node)(nil)
	_ gofs.NodeReaddirer   = (*node)(nil)
	_ gofs.NodeGetattrer   = (*node)(nil)
	_ gofs.NodeReadlinker  = (*node)(nil)
	_ gofs.NodeGetxattrer  = (*node)(nil)
	_ gofs.NodeListxattrer = (*node)(nil)
	_ gofs.NodeOpener      = (*node)(nil)
	_ gofs.FileReader      = (*handle)(nil)
	_ gofs.FileLseeker     = (*handle)(nil)
	_ gofs.FileReleaser    = (*handle)(nil)
)

// errno is the system's word for an error of a view.
func errno(err error) syscall.Errno {
	var no unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.Is(err, apply.ErrUnsettled):
		return unix.EAGAIN
	case errors.As(err, &no):
		return no
	case errors.Is(err, fs.ErrNotExist):
		return unix.ENOENT
	}
	return unix.EIO
}

// Lookup finds a name in a directory.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	f, err := n.view.Child(n.file, name)
	if err != nil {
		return nil, errno(err)
	}
	attr, err := n.view.Lstat(f)
	if err != nil {
		return nil, errno(err)
	}
	setAttr(&out.Attr, attr)
	return n.NewInode(ctx, &node{view: n.view, file: f}, gofs.StableAttr{Ino: attr.Ino, Mode: attr.Type()}), 0
}

// Readdir lists a directory.
func (n *node) Readdir(context.Context) (gofs.DirStream, syscall.Errno) {
	files, err := n.view.ReadDir(n.file)
	if err != nil {
		return nil, errno(err)
	}
	list := make([]fuse.DirEntry, len(files))
	for i, f := range files {
		list[i] = fuse.DirEntry{Name: f.Name, Mode: f.Type}
	}
	return gofs.NewListDirStream(list), 0
}

// Getattr gives the attributes.
func (n *node) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	attr, err := n.view.Lstat(n.file)
	if err == nil {
		setAttr(&out.Attr, attr)
	}
	return errno(err)
}

func setAttr(out *fuse.Attr, a apply.ViewAttr) {
	out.Ino, out.Mode, out.Nlink, out.Size = a.Ino, a.Mode, a.Nlink, uint64(a.Size)
	out.Uid, out.Gid, out.Rdev = a.UID, a.GID, uint32(a.Rdev)
	out.Blocks, out.Blksize = (out.Size+511)/512, 4096
	// There is one time. Programs that look at the change time see the same one whenever they look.
	out.Mtime, out.Mtimensec = uint64(a.MtimeSec), uint32(a.MtimeNsec)
	out.Atime, out.Atimensec, out.Ctime, out.Ctimensec = out.Mtime, out.Mtimensec, out.Mtime, out.Mtimensec
}

// Readlink gives the target of a symlink.
func (n *node) Readlink(context.Context) ([]byte, syscall.Errno) {
	target, err := n.view.Readlink(n.file)
	return []byte(target), errno(err)
}

// Getxattr gives one extended attribute.
func (n *node) Getxattr(_ context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	list, err := n.view.Xattrs(n.file)
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
	list, err := n.view.Xattrs(n.file)
	if err != nil {
		return 0, errno(err)
	}
	var names []byte
	for _, x := range list {
		names = append(append(names, x.Name...), 0)
	}
	return fill(dest, names)
}

// fill answers a call that asks for the size first.
func fill(dest, value []byte) (uint32, syscall.Errno) {
	if len(dest) < len(value) {
		return uint32(len(value)), unix.ERANGE
	}
	return uint32(copy(dest, value)), 0
}

// Open opens a file. Its pages stay good after it is closed.
func (n *node) Open(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	file, err := n.view.Open(n.file)
	if err != nil {
		return nil, 0, errno(err)
	}
	return &handle{file}, fuse.FOPEN_KEEP_CACHE, 0
}

// handle is an open file. It says nothing of attributes: those of the file in the store may be of another date.
type handle struct{ file *os.File }

// Read reads without moving bytes through this process where the kernel can do that.
func (h *handle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return fuse.ReadResultFd(h.file.Fd(), off, len(dest)), 0
}

// Lseek finds data and holes.
func (h *handle) Lseek(_ context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	n, err := unix.Seek(int(h.file.Fd()), int64(off), int(whence))
	return uint64(n), errno(err)
}

// Release closes the file.
func (h *handle) Release(context.Context) syscall.Errno { return errno(h.file.Close()) }
