package beneath

import (
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Lstat describes the inode that path means; a symlink is described itself. Of a mount point it describes what is mounted
// there: st_dev tells.
func (r *Root) Lstat(path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := r.at("lstat", path, func(fd int, base string) error {
		return unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return st, err
}

// Open opens path with the O_ flags given (O_CLOEXEC is added) and returns a descriptor that the caller
// must close. perm counts with O_CREAT and O_TMPFILE only and is cut by the umask. A symlink can be opened with O_PATH
// only. Use O_NONBLOCK where the path may be a fifo or a device.
func (r *Root) Open(path string, flags int, perm uint32) (int, error) {
	fd := -1
	err := r.at("open", path, func(dir int, base string) (err error) {
		fd, err = r.openat2(dir, base, flags, perm)
		return err
	})
	return fd, err
}

// Readlink returns the target of the symlink at path.
func (r *Root) Readlink(path string) (string, error) {
	var target string
	err := r.at("readlink", path, func(fd int, base string) error {
		var buf [unix.PathMax]byte
		n, err := unix.Readlinkat(fd, base, buf[:])
		if err == nil {
			target = string(buf[:n])
		}
		return err
	})
	return target, err
}

// Mkdir makes a directory. mode is cut by the umask: Chmod sets what must be exact.
func (r *Root) Mkdir(path string, mode uint32) error {
	return r.at("mkdir", path, func(fd int, base string) error {
		return unix.Mkdirat(fd, base, mode)
	})
}

// Mknod makes a device, fifo, socket or empty regular file, by the type bits of mode; rdev is as in st_rdev. The
// permissions are cut by the umask.
func (r *Root) Mknod(path string, mode uint32, rdev uint64) error {
	return r.at("mknod", path, func(fd int, base string) error {
		return unix.Mknodat(fd, base, mode, int(rdev))
	})
}

// Symlink makes a symlink at path.
func (r *Root) Symlink(target, path string) error {
	return r.at("symlink", path, func(fd int, base string) error {
		return unix.Symlinkat(target, fd, base)
	})
}

// Unlink removes a name of anything but a directory.
func (r *Root) Unlink(path string) error {
	return r.at("unlink", path, func(fd int, base string) error {
		return unix.Unlinkat(fd, base, 0)
	})
}

// Rmdir removes an empty directory.
func (r *Root) Rmdir(path string) error {
	defer r.Forget(path)
	return r.at("rmdir", path, func(fd int, base string) error {
		return unix.Unlinkat(fd, base, unix.AT_REMOVEDIR)
	})
}

// Chown sets owner and group, also of a symlink. It clears the set-uid and set-gid bits and security.capability: set
// those after it.
func (r *Root) Chown(path string, uid, gid uint32) error {
	return r.at("chown", path, func(fd int, base string) error {
		return unix.Fchownat(fd, base, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Chmod sets the permission bits (07777). A symlink has none: it gives EOPNOTSUPP.
func (r *Root) Chmod(path string, mode uint32) error {
	mode &= 0o7777
	return r.at("chmod", path, func(fd int, base string) error {
		err := unix.Fchmodat(fd, base, mode, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.EOPNOTSUPP || err == unix.EINVAL {
			return ChmodByDescriptor(fd, base, mode) // Linux before 6.6 has no fchmodat2
		}
		return err
	})
}

// ChmodByDescriptor is fchmodat with AT_SYMLINK_NOFOLLOW for kernels that do not have it; base is one name in dir.
func ChmodByDescriptor(dir int, base string, mode uint32) error {
	fd, err := unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}

// Utimes sets the time of last modification, also of a symlink. The time of last access is left alone.
func (r *Root) Utimes(path string, sec, nsec int64) error {
	return r.at("set time of", path, func(fd int, base string) error {
		times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: sec, Nsec: nsec}}
		return unix.UtimesNanoAt(fd, base, times[:], unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Rename renames old below from to new below to, by renameat2(2) with its RENAME_ flags. The two Roots may be one. A
// symlink is renamed itself.
func Rename(from *Root, old string, to *Root, new string, flags uint) error {
	err := two(from, old, to, new, func(olddir int, oldbase string, newdir int, newbase string) error {
		return unix.Renameat2(olddir, oldbase, newdir, newbase, flags)
	})
	from.Forget(old)
	to.Forget(new)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: old, New: new, Err: err}
	}
	return nil
}

// Link makes new below to another name of the inode at old below from. A symlink is linked itself.
func Link(from *Root, old string, to *Root, new string) error {
	err := two(from, old, to, new, func(olddir int, oldbase string, newdir int, newbase string) error {
		return unix.Linkat(olddir, oldbase, newdir, newbase, 0)
	})
	if err != nil {
		return &os.LinkError{Op: "link", Old: old, New: new, Err: err}
	}
	return nil
}

// SyncFS writes everything of the filesystem that the top directory is on to its disk, and reports write errors that
// came up since the Root was opened.
func (r *Root) SyncFS() error {
	return fail("sync filesystem of", r.path, unix.Syncfs(r.top.fd))
}

// at runs do with the directory that holds path and path's last element.
func (r *Root) at(op, path string, do func(fd int, base string) error) error {
	h, base, err := r.parent(path)
	if err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	err = do(h.fd, base)
	h.Release()
	return fail(op, path, err)
}

// two is at for operations on two names.
func two(from *Root, old string, to *Root, new string, do func(olddir int, oldbase string, newdir int, newbase string) error) error {
	if old == "" || new == "" {
		return unix.EINVAL
	}
	a, oldbase, err := from.parent(old)
	if err != nil {
		return err
	}
	defer a.Release()
	b, newbase, err := to.parent(new)
	if err != nil {
		return err
	}
	defer b.Release()
	return do(a.fd, oldbase, b.fd, newbase)
}
