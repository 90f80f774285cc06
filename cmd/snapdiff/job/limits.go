package job

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"snapdiff/cmd/snapdiff/output"
)

const (
	mostXattr   = 16000 // bytes: more than this no btrfs file can have
	longestName = 255   // bytes
	xfsMagic    = unix.XFS_SUPER_MAGIC
)

// limits tells what the mirror's filesystem cannot hold. It tries with a file without a name (O_TMPFILE), which leaves no trace.
func (c *checker) limits() {
	tree := filepath.Join(c.job.Store, "tree")
	var st unix.Statfs_t
	if unix.Statfs(tree, &st) != nil {
		return
	}
	if st.Namelen < longestName {
		c.say(Warning, "", "the mirror's filesystem takes names of %d bytes at most: files with longer ones cannot be copied", st.Namelen)
	}
	switch st.Type {
	case xfsMagic:
		c.say(Note, "", "XFS takes symlinks of 1,024 bytes at most: longer ones cannot be copied")
	case unix.EXT4_SUPER_MAGIC:
		c.say(Note, "", "ext4 takes 65,000 links to one file at most: further ones cannot be copied")
	}
	f, err := os.OpenFile(tree, unix.O_TMPFILE|os.O_RDWR, 0o600)
	if err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
			c.say(Note, "", "whether the mirror's filesystem holds ACLs and attributes cannot be tried without writing to it")
		}
		return
	}
	defer f.Close()
	c.attributes(f)
	c.times(f)
}

// attributes tries ACLs and extended attributes.
func (c *checker) attributes(f *os.File) {
	fd := int(f.Fd())
	for _, name := range []string{"user.snapdiff", "trusted.snapdiff"} {
		if err := unix.Fsetxattr(fd, name, []byte("x"), 0); err != nil {
			c.say(Warning, "", "the mirror's filesystem takes no attributes like %s (%v): files that have some cannot be copied", name, err)
			return
		}
	}
	if most := largestXattr(fd); most < mostXattr {
		c.say(Note, "", "the mirror's filesystem takes attributes of about %s at most: files with larger ones cannot be copied", output.Size(int64(most)))
	}
	unix.Fremovexattr(fd, "user.snapdiff") // attributes share their room
	// Version 2; user::rw-, user:99:r--, group::r--, mask::r--, other::--- (linux/posix_acl_xattr.h).
	acl := []byte{2, 0, 0, 0,
		1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 99, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
		16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	if err := unix.Fsetxattr(fd, "system.posix_acl_access", acl, 0); err != nil {
		c.say(Warning, "mount -o remount,acl "+mountPoint(c.job.Store), "the mirror's filesystem takes no ACLs (%v): files that have some cannot be copied", err)
	}
}

// largestXattr finds out how large an attribute may be, to the nearest 100 bytes.
func largestXattr(fd int) int {
	fits := func(size int) bool { return unix.Fsetxattr(fd, "user.snapdiff", make([]byte, size), 0) == nil }
	low, high := 1, mostXattr
	if fits(high) {
		return high
	}
	for high-low > 100 {
		if middle := (low + high) / 2; fits(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

// times tries nanoseconds.
func (c *checker) times(f *os.File) {
	want := unix.Timespec{Sec: time.Now().Unix(), Nsec: 123456789}
	// A descriptor's own name in /proc is the way to set times of a file without a name.
	err := unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), []unix.Timespec{want, want}, 0)
	var st unix.Stat_t
	if err == nil && unix.Fstat(int(f.Fd()), &st) == nil && st.Mtim.Nsec != want.Nsec {
		c.say(Missing, "put the store on XFS, btrfs, or an ext4 with inodes of 256 bytes (mkfs.ext4 -I 256)",
			"the mirror's filesystem keeps no nanoseconds in times: no file would ever count as copied")
	}
}
