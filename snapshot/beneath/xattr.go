package beneath

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Xattr is one extended attribute.
type Xattr struct {
	Name  string // with its namespace: "user.comment"
	Value []byte
}

// bigBuffers holds buffers of the longest list of names and the longest value that the kernel hands out (XATTR_LIST_MAX
// and XATTR_SIZE_MAX, linux/limits.h), also used for reading directories.
var bigBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// Xattrs returns the extended attributes of the inode at path that a copy has to have, sorted by name: those in the
// namespaces user, trusted and security, and POSIX ACLs. (Others, as btrfs.compression, say how a filesystem is to store
// the file.) nil when there are none, or when the filesystem does not know any.
func (r *Root) Xattrs(path string) ([]Xattr, error) {
	var list []Xattr
	err := r.at("read xattrs of", path, func(fd int, base string) (err error) {
		list, err = xattrs(procPath(fd, base))
		return err
	})
	return list, err
}

// SetXattr makes or replaces an extended attribute, also of a symlink, fifo or device.
func (r *Root) SetXattr(path, name string, value []byte) error {
	return r.at("set xattr "+name+" of", path, func(fd int, base string) error {
		return unix.Lsetxattr(procPath(fd, base), name, value, 0)
	})
}

// RemoveXattr removes an extended attribute; ENODATA when there is none.
func (r *Root) RemoveXattr(path, name string) error {
	return r.at("remove xattr "+name+" of", path, func(fd int, base string) error {
		return unix.Lremovexattr(procPath(fd, base), name)
	})
}

// procPath is a path for system calls that take no directory descriptor: the kernel starts at the descriptor, and the
// base is one element, which the "l" calls do not follow. (The *xattrat calls came with Linux 6.13 only.)
func procPath(fd int, base string) string {
	return "/proc/self/fd/" + strconv.Itoa(fd) + "/" + base
}

func xattrs(path string) ([]Xattr, error) {
	buf := bigBuffers.Get().(*[64 << 10]byte)
	defer bigBuffers.Put(buf)
	n, err := unix.Llistxattr(path, buf[:])
	if err == unix.EOPNOTSUPP || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Xattr
	for name := range bytes.SplitSeq(buf[:n], []byte{0}) {
		if copied(string(name)) {
			list = append(list, Xattr{Name: string(name)})
		}
	}
	for i := range list {
		n, err := unix.Lgetxattr(path, list[i].Name, buf[:])
		if err != nil && err != unix.ENODATA { // removed since it was listed
			return nil, err
		}
		list[i].Value = []byte{}
		if err == unix.ENODATA {
			list[i].Value = nil
		} else {
			list[i].Value = append(list[i].Value, buf[:n]...)
		}
	}
	list = slices.DeleteFunc(list, func(x Xattr) bool { return x.Value == nil })
	slices.SortFunc(list, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// copied tells which extended attributes belong to what a mirror must reproduce. (XFS lists each ACL a second time, as
// trusted.SGI_ACL_FILE or _DEFAULT.)
func copied(name string) bool {
	for _, ns := range []string{"user.", "trusted.", "security."} {
		if strings.HasPrefix(name, ns) {
			return !strings.HasPrefix(name, "trusted.SGI_ACL_")
		}
	}
	return name == "system.posix_acl_access" || name == "system.posix_acl_default"
}
