// Package fusefs shows restore points as read-only filesystems: one of them, or all of them as directories.
//
// The past does not change, so the kernel may keep what it was told for as long as it likes. Where it can, it reads files
// itself, without asking here again.
package fusefs

import (
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
	root := &node{point: &point{run: view.Run(), view: view}, file: top, forget: newForgetter(), opened: newHandles()}
	server, err := mount(root, dir, fmt.Sprintf("r%d", view.Run()), gofs.StableAttr{Ino: attr.Ino, Mode: unix.S_IFDIR}, opts)
	if err != nil {
		return nil, fmt.Errorf("mount r%d at %s: %w", view.Run(), dir, err)
	}
	go func() { server.Wait(); root.opened.closeAll() }()
	return server, nil
}

// mount mounts a filesystem of any of the kinds here.
func mount(root gofs.InodeEmbedder, dir, name string, stable gofs.StableAttr, opts Options) (*fuse.Server, error) {
	timeout := keep
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return nil, fmt.Errorf("%w: the kernel has no FUSE: modprobe fuse (in a container: give it the device)", err)
	}
	return gofs.Mount(dir, root, &gofs.Options{
		EntryTimeout: &timeout, AttrTimeout: &timeout, NegativeTimeout: &timeout,
		NullPermissions: true, // a mode of 0 is one
		RootStableAttr:  &stable,
		MountOptions: fuse.MountOptions{
			AllowOther: opts.AllowOther, FsName: name, Name: "snapdiff",
			Options: []string{"default_permissions"}, EnableAcl: true, EnableSymlinkCaching: true, MaxReadAhead: 1 << 20, MaxWrite: 1 << 20,
			DirectMountStrict: true, DirectMountFlags: unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV,
		},
	})
}

// errno is the system's word for an error of a view.
func errno(err error) syscall.Errno {
	var no unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.Is(err, apply.ErrUnsettled):
		return unix.EAGAIN
	case errors.Is(err, apply.ErrNoRestorePoint):
		return unix.ESTALE
	case errors.As(err, &no):
		return no
	case errors.Is(err, fs.ErrNotExist):
		return unix.ENOENT
	}
	return unix.EIO
}

func setAttr(out *fuse.Attr, a apply.ViewAttr) {
	out.Ino, out.Mode, out.Nlink, out.Size = a.Ino, a.Mode, a.Nlink, uint64(a.Size)
	out.Uid, out.Gid, out.Rdev = a.UID, a.GID, uint32(a.Rdev)
	out.Blocks, out.Blksize = uint64(a.Blocks), 4096
	// There is one time. Programs that look at the change time see the same one whenever they look.
	out.Mtime, out.Mtimensec = uint64(a.MtimeSec), uint32(a.MtimeNsec)
	out.Atime, out.Atimensec, out.Ctime, out.Ctimensec = out.Mtime, out.Mtimensec, out.Mtime, out.Mtimensec
}

// fill answers a call that asks for the size first.
func fill(dest, value []byte) (uint32, syscall.Errno) {
	if len(dest) < len(value) {
		return uint32(len(value)), unix.ERANGE
	}
	return uint32(copy(dest, value)), 0
}
