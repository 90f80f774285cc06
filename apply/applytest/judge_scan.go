package applytest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	typeMask = unix.S_IFMT
	// emptySubvolume is BTRFS_EMPTY_SUBVOL_DIR_OBJECTID (linux/btrfs_tree.h): the inode number of the empty directory that
	// a snapshot shows where a subvolume was nested.
	emptySubvolume = 2
)

// buffers are large enough for any extended attribute. A new one for each file would be most of the work.
var buffers = sync.Pool{New: func() any { b := make([]byte, 1<<16); return &b }}

// inode tells inodes apart, also in a tree of several filesystems.
type inode struct{ dev, ino uint64 }

// item is all of one name that counts as equal, in forms that == compares.
type item struct {
	inode       inode
	mode        uint32
	nlink       int
	owner       string
	rdev        uint64
	mtime       unix.Timespec
	size        int64 // regular files only
	target      string
	xattrs      string
	data        string // checksum
	holes       string // list of "from-to", as SEEK_HOLE tells
	placeholder bool
}

func (i item) isDir() bool { return i.mode&typeMask == unix.S_IFDIR }

// scanTree reads a whole tree, except .snapdiff at its top. Paths may have any length.
func scanTree(root string) (map[string]item, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	// What is not yet on disk shows no holes on some filesystems.
	if err := unix.Syncfs(fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	items := map[string]item{}
	top, err := scanItem(fd, ".")
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	top.placeholder = false
	items[""] = top
	return items, scanDir(fd, "", items)
}

// scanDir reads what is below one open directory and closes it.
func scanDir(fd int, prefix string, items map[string]item) error {
	dir := os.NewFile(uintptr(fd), prefix)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := prefix + name
		if path == ".snapdiff" {
			continue
		}
		it, err := scanItem(fd, name)
		if err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
		items[path] = it
		if !it.isDir() {
			continue
		}
		sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
		if err := scanDir(sub, path+"/", items); err != nil {
			return err
		}
	}
	return nil
}

// scanItem reads one name.
func scanItem(dir int, name string) (item, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return item{}, err
	}
	it := item{inode: inode{st.Dev, st.Ino}, mode: st.Mode, nlink: int(st.Nlink), owner: fmt.Sprint(st.Uid, ":", st.Gid), mtime: st.Mtim}
	it.placeholder = it.isDir() && st.Ino == emptySubvolume
	var err error
	if it.xattrs, err = scanXattrs(fdPath(dir, name)); err != nil {
		return item{}, err
	}
	switch st.Mode & typeMask {
	case unix.S_IFBLK, unix.S_IFCHR:
		it.rdev = st.Rdev
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, name, buf)
		if err != nil {
			return item{}, err
		}
		it.target = string(buf[:n])
	case unix.S_IFREG:
		it.size = st.Size
		it.data, it.holes, err = scanData(dir, name, st.Size)
	}
	return it, err
}

// scanData reads a file's checksum and its holes.
func scanData(dir int, name string, size int64) (sum, holes string, err error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", "", err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	// On XFS a write to a shared extent sets aside blocks around it, and a hole among them looks like data for as long as
	// pages of it that were read are in memory.
	if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
		return "", "", err
	}
	for at := int64(0); at < size; {
		from, err := unix.Seek(fd, at, unix.SEEK_HOLE)
		if err != nil {
			return "", "", err
		}
		if from >= size { // the hole that every file has behind its end
			break
		}
		to, err := unix.Seek(fd, from, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			to = size
		} else if err != nil {
			return "", "", err
		}
		holes += fmt.Sprintf("%d-%d ", from, to)
		at = to
	}
	if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
		return "", "", err
	}
	hash := sha256.New()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	if _, err := io.CopyBuffer(hash, struct{ io.Reader }{f}, *buf); err != nil { // a plain Reader: a File would take a buffer of its own
		return "", "", err
	}
	return fmt.Sprintf("%x", hash.Sum(nil)[:8]), holes, nil
}

// scanXattrs gives all extended attributes of a name as sorted text, without those that are one filesystem's own.
func scanXattrs(path string) (string, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	n, err := unix.Llistxattr(path, *buf)
	if err != nil {
		return "", err
	}
	var all []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string((*buf)[:n]), "\x00"), "\x00") {
		if name == "" || strings.HasPrefix(name, "trusted.SGI_ACL_") || strings.HasPrefix(name, "btrfs.") {
			continue
		}
		n, err := unix.Lgetxattr(path, name, *buf)
		if err != nil {
			return "", fmt.Errorf("xattr %s: %w", name, err)
		}
		all = append(all, fmt.Sprintf("%s=%q", name, (*buf)[:n]))
	}
	slices.Sort(all)
	return strings.Join(all, " "), nil
}
