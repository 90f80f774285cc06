package applytest

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Chmod sets the permission bits, set-uid and the like included.
func Chmod(path string, mode uint32) Change {
	return change("Chmod", path, func(p string) error { return noFollow(p, func() error { return unix.Chmod(p, mode) }) }, mode)
}

// noFollow refuses symlinks, for calls that would follow them.
func noFollow(p string, f func() error) error {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.ELOOP
	}
	return f()
}

// Chown sets owner and group, of a symlink itself too.
func Chown(path string, uid, gid int) Change {
	return change("Chown", path, func(p string) error { return unix.Lchown(p, uid, gid) }, uid, gid)
}

// SetXattr sets an extended attribute with its full name ("user.x", "trusted.x").
func SetXattr(path, name, value string) Change {
	return change("SetXattr", path, func(p string) error { return unix.Lsetxattr(p, name, []byte(value), 0) }, name, value)
}

// RemoveXattr removes an extended attribute.
func RemoveXattr(path, name string) Change {
	return change("RemoveXattr", path, func(p string) error { return unix.Lremovexattr(p, name) }, name)
}

// aclEntry is struct posix_acl_xattr_entry (linux/posix_acl_xattr.h): tag, permissions, id, little endian.
type aclEntry struct {
	Tag, Perm uint16
	ID        uint32
}

// The tags of an ACL, from linux/posix_acl.h.
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclMask     = 0x10
	aclOther    = 0x20
)

// aclValue is an ACL that gives uid the permissions perm beside the usual three.
func aclValue(uid uint32, perm uint16) []byte {
	value := binary.LittleEndian.AppendUint32(nil, 2) // POSIX_ACL_XATTR_VERSION
	for _, e := range []aclEntry{
		{aclUserObj, 7, ^uint32(0)}, {aclUser, perm, uid}, {aclGroupObj, 5, ^uint32(0)}, {aclMask, 7, ^uint32(0)}, {aclOther, 0, ^uint32(0)},
	} {
		value = binary.LittleEndian.AppendUint16(value, e.Tag)
		value = binary.LittleEndian.AppendUint16(value, e.Perm)
		value = binary.LittleEndian.AppendUint32(value, e.ID)
	}
	return value
}

// ACL sets an access ACL that gives one user the permissions perm (0 to 7).
func ACL(path string, uid uint32, perm uint16) Change {
	return change("ACL", path, func(p string) error {
		return noFollow(p, func() error { return unix.Setxattr(p, "system.posix_acl_access", aclValue(uid, perm), 0) })
	}, uid, perm)
}

// DefaultACL sets what new files below a directory inherit.
func DefaultACL(path string, uid uint32, perm uint16) Change {
	return change("DefaultACL", path, func(p string) error {
		return noFollow(p, func() error { return unix.Setxattr(p, "system.posix_acl_default", aclValue(uid, perm), 0) })
	}, uid, perm)
}

// Capability sets a file capability, as setcap(8) does: struct vfs_cap_data revision 2 (linux/capability.h).
func Capability(path string, permitted uint32) Change {
	return change("Capability", path, func(p string) error {
		const revision2, effective = 0x02000000, 1
		value := binary.LittleEndian.AppendUint32(nil, revision2|effective)
		value = binary.LittleEndian.AppendUint32(value, permitted)
		value = append(value, make([]byte, 12)...)
		return unix.Lsetxattr(p, "security.capability", value, 0)
	}, permitted)
}

// Utimes sets the modification time; nothing is followed. The access time becomes the same.
func Utimes(path string, sec, nsec int64) Change {
	return change("Utimes", path, func(p string) error {
		when := unix.Timespec{Sec: sec, Nsec: nsec}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW)
	}, sec, nsec)
}

// TouchAtime sets the access time alone, which is no change to a mirror.
func TouchAtime(path string, sec int64) Change {
	return change("TouchAtime", path, func(p string) error {
		times := []unix.Timespec{{Sec: sec}, {Nsec: unix.UTIME_OMIT}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, times, unix.AT_SYMLINK_NOFOLLOW)
	}, sec)
}

// KeepMtime does other changes to a file and then puts its modification time back, so that size and mtime may prove
// nothing.
func KeepMtime(path string, changes ...Change) Change {
	args := []any{path}
	for _, c := range changes {
		args = append(args, raw(c.text))
	}
	return Change{text: call("KeepMtime", args), do: func(root string) error {
		return at(root, path, func(p string) error {
			var st unix.Stat_t
			if err := unix.Lstat(p, &st); err != nil {
				return err
			}
			for _, c := range changes {
				if err := c.do(root); err != nil {
					return err
				}
			}
			times := []unix.Timespec{st.Atim, st.Mtim}
			return unix.UtimesNanoAt(unix.AT_FDCWD, p, times, unix.AT_SYMLINK_NOFOLLOW)
		})
	}}
}

// raw is printed as it is.
type raw string

// GoString prints a nested call without quotes.
func (r raw) GoString() string { return string(r) }

// Mkdir makes one directory.
func Mkdir(path string) Change {
	return change("Mkdir", path, func(p string) error { return unix.Mkdir(p, 0o755) })
}

// Symlink makes a symlink; its target is any bytes.
func Symlink(target, path string) Change {
	return change("Symlink", path, func(p string) error { return unix.Symlink(target, p) }, target).reversed("Symlink", target, path)
}

// reversed prints the arguments in another order than (path, ...).
func (c Change) reversed(name string, args ...any) Change {
	c.text = call(name, args)
	return c
}

// Mknod makes a device node; mode has its type (unix.S_IFBLK or S_IFCHR) and permission bits.
func Mknod(path string, mode, major, minor uint32) Change {
	return change("Mknod", path, func(p string) error { return unix.Mknod(p, mode, int(unix.Mkdev(major, minor))) }, mode, major, minor)
}

// Fifo makes a named pipe.
func Fifo(path string) Change {
	return change("Fifo", path, func(p string) error { return unix.Mknod(p, unix.S_IFIFO|0o640, 0) })
}

// Socket makes the file of a Unix socket.
func Socket(path string) Change {
	return change("Socket", path, func(p string) error { return unix.Mknod(p, unix.S_IFSOCK|0o755, 0) })
}

// Link makes a hard link, of symlinks and devices too.
func Link(old, path string) Change {
	return change2("Link", old, path, func(a, b string) error { return unix.Linkat(unix.AT_FDCWD, a, unix.AT_FDCWD, b, 0) })
}

// Rename moves, and replaces what was there as rename(2) does.
func Rename(old, path string) Change { return change2("Rename", old, path, unix.Rename) }

// Exchange swaps two names in one step.
func Exchange(a, b string) Change {
	return change2("Exchange", a, b, func(a, b string) error {
		return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	})
}

// Whiteout moves and leaves a whiteout, a device with the number 0:0, under the old name, as overlay filesystems do.
func Whiteout(old, path string) Change {
	return change2("Whiteout", old, path, func(a, b string) error {
		return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_WHITEOUT)
	})
}

// Remove removes a name: of a file, or of an empty directory.
func Remove(path string) Change {
	return change("Remove", path, func(p string) error {
		err := unix.Unlink(p)
		if errors.Is(err, unix.EISDIR) {
			return unix.Rmdir(p)
		}
		return err
	})
}

// RemoveAll removes a tree, which must be there.
func RemoveAll(path string) Change {
	return change("RemoveAll", path, func(p string) error {
		if _, err := os.Lstat(p); err != nil {
			return err
		}
		return os.RemoveAll(p)
	})
}
