package apply

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
)

// node is an inode whose attributes are read or set: by descriptor where it can be opened without side effects
// (directories and regular files), by its name in the open directory otherwise.
type node struct {
	spot
	fd int // -1: by name
}

// openNode opens an inode of the type that st says. Devices and fifos are never opened: that does things.
func openNode(at spot, st *unix.Stat_t) (node, error) {
	flags := unix.O_RDONLY
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		flags |= unix.O_DIRECTORY
	case unix.S_IFREG:
	default:
		return node{spot: at, fd: -1}, nil
	}
	fd, err := openQuiet(at, flags)
	return node{spot: at, fd: fd}, err
}

// openQuiet opens for reading without leaving an access time, where that is allowed.
func openQuiet(at spot, flags int) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	for {
		fd, err := unix.Openat(at.dir, at.base, flags|unix.O_NOATIME, 0)
		if err == unix.EPERM {
			fd, err = unix.Openat(at.dir, at.base, flags, 0)
		}
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (n node) close() {
	if n.fd >= 0 {
		unix.Close(n.fd)
	}
}

// procPath names the inode for the calls that know no directory descriptor. The last element is not followed by the
// l-variants of the calls.
func (n node) procPath() string { return "/proc/self/fd/" + strconv.Itoa(n.dir) + "/" + n.base }

func (n node) stat(st *unix.Stat_t) error {
	if n.fd >= 0 {
		return unix.Fstat(n.fd, st)
	}
	return unix.Fstatat(n.dir, n.base, st, unix.AT_SYMLINK_NOFOLLOW)
}

func (n node) chown(uid, gid uint32) error {
	if n.fd >= 0 {
		return unix.Fchown(n.fd, int(uid), int(gid))
	}
	return unix.Fchownat(n.dir, n.base, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW)
}

// chmod is never asked of a symlink.
func (n node) chmod(mode uint32) error {
	if n.fd >= 0 {
		return unix.Fchmod(n.fd, mode)
	}
	err := unix.Fchmodat(n.dir, n.base, mode, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.EOPNOTSUPP {
		return beneath.ChmodByDescriptor(n.dir, n.base, mode) // a symlink, or Linux before 6.6, which has no fchmodat2
	}
	return err
}

// setMtime leaves the access time alone.
func (n node) setMtime(t unix.Timespec) error {
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, t}
	if n.fd >= 0 {
		return futimens(n.fd, &ts[0])
	}
	return unix.UtimesNanoAt(n.dir, n.base, ts, unix.AT_SYMLINK_NOFOLLOW)
}

func (n node) listXattrs(buf []byte) (int, error) {
	if n.fd >= 0 {
		return unix.Flistxattr(n.fd, buf)
	}
	return unix.Llistxattr(n.procPath(), buf)
}

func (n node) getXattr(name string, buf []byte) (int, error) {
	if n.fd >= 0 {
		return unix.Fgetxattr(n.fd, name, buf)
	}
	return unix.Lgetxattr(n.procPath(), name, buf)
}

func (n node) setXattr(name string, value []byte) error {
	if n.fd >= 0 {
		return unix.Fsetxattr(n.fd, name, value, 0)
	}
	return unix.Lsetxattr(n.procPath(), name, value, 0)
}

func (n node) removeXattr(name string) error {
	if n.fd >= 0 {
		return unix.Fremovexattr(n.fd, name)
	}
	return unix.Lremovexattr(n.procPath(), name)
}

// Attributes of this many bytes fit without a second call; nearly all inodes have none.
const xattrGuess = 4096

// xattrNames lists the names that count (see countsXattr), unsorted.
func (n node) xattrNames() ([]string, error) {
	var guess [xattrGuess]byte
	buf := guess[:]
	for {
		size, err := n.listXattrs(buf)
		switch err {
		case nil:
			return splitXattrs(buf[:size]), nil
		case unix.EOPNOTSUPP:
			return nil, nil
		case unix.ERANGE:
			if len(buf) >= 64<<10 { // XATTR_LIST_MAX
				return nil, err
			}
			buf = make([]byte, 64<<10)
		default:
			return nil, err
		}
	}
}

func splitXattrs(list []byte) []string {
	var names []string
	for len(list) > 0 {
		name, rest, _ := bytes.Cut(list, []byte{0})
		if countsXattr(string(name)) {
			names = append(names, string(name))
		}
		list = rest
	}
	return names
}

// countsXattr tells the extended attributes that the mirror must have. (btrfs shows its own properties as attributes, and
// XFS shows each ACL a second time in the trusted namespace.)
func countsXattr(name string) bool {
	for _, space := range []string{"user.", "security.", "trusted."} {
		if strings.HasPrefix(name, space) {
			return !strings.HasPrefix(name, "trusted.SGI_ACL_")
		}
	}
	return name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

func (n node) xattrValue(name string) ([]byte, error) {
	var guess [xattrGuess]byte
	size, err := n.getXattr(name, guess[:])
	if err == nil {
		return bytes.Clone(guess[:size]), nil
	}
	if err != unix.ERANGE {
		return nil, err
	}
	buf := make([]byte, 64<<10) // XATTR_SIZE_MAX
	size, err = n.getXattr(name, buf)
	return buf[:max(size, 0)], err
}

// firstBad is the first error that concerns one attribute of an inode alone: the others are set all the same, as a directory is there whether all of
// its attributes can be had or not.
type firstBad struct{ err error }

// stops keeps such an error, and tells any other.
func (f *firstBad) stops(err error) bool {
	bad := IsBadFile(err)
	if bad && f.err == nil {
		f.err = err
	}
	return err != nil && !bad
}

// copyAttributes gives to the owner, extended attributes, mode and mtime of from, which is described by want. Only what
// differs is set, in an order in which nothing undoes what came before: a change of owner drops capabilities and set-id bits, an
// ACL changes the mode, and everything else comes before the time. have is what it is in the end. A BadFile error is of the first attribute that
// could not be set.
func copyAttributes(from, to node, want *unix.Stat_t) (have unix.Stat_t, err error) {
	var failed firstBad
	names, err := from.xattrNames()
	if err = readError(from.path, "list the attributes of", err); failed.stops(err) {
		return have, err
	}
	listed := err == nil
	if err := to.stat(&have); err != nil {
		return have, writeError(from.path, "stat", err)
	}
	if have.Mode&unix.S_IFMT != want.Mode&unix.S_IFMT {
		return have, fmt.Errorf("%q in the store is not of the type that the snapshot has", to.path)
	}
	changed := have.Uid != want.Uid || have.Gid != want.Gid
	if changed {
		if err := to.chown(want.Uid, want.Gid); err != nil { // no mode is set then: a set-uid bit is not for another owner
			return have, writeError(from.path, "change the owner of", err)
		}
	}
	if listed {
		xattrs, err := copyXattrs(from, to, names)
		if failed.stops(err) {
			return have, err
		}
		changed = changed || xattrs
	}
	if changed {
		if err := to.stat(&have); err != nil {
			return have, writeError(from.path, "stat", err)
		}
	}
	if err := setModeAndTime(from.path, to, &have, want); failed.stops(err) {
		return have, err
	}
	return have, failed.err
}

// setModeAndTime ends the making of an inode, which is as have tells, and looks whether all arrived: what a filesystem cannot hold it
// cuts silently. have is what it is then.
func setModeAndTime(path string, to node, have, want *unix.Stat_t) error {
	var failed firstBad
	if have.Mode != want.Mode && want.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := writeError(path, "change the mode of", to.chmod(want.Mode&0o7777)); failed.stops(err) {
			return err
		}
	}
	if have.Mtim != want.Mtim {
		if err := writeError(path, "set the time of", to.setMtime(want.Mtim)); failed.stops(err) {
			return err
		}
	}
	if err := to.stat(have); err != nil {
		return writeError(path, "stat", err)
	}
	if failed.err != nil {
		return failed.err
	}
	return writeError(path, "set the attributes of", differs(have, want))
}

// differs tells which attribute the mirror's inode did not take over.
func differs(have, want *unix.Stat_t) error {
	switch {
	case have.Mode != want.Mode && want.Mode&unix.S_IFMT != unix.S_IFLNK:
		return fmt.Errorf("%w: mode %o became %o", errCannotHold, want.Mode, have.Mode)
	case have.Uid != want.Uid || have.Gid != want.Gid:
		return fmt.Errorf("%w: owner %d:%d became %d:%d", errCannotHold, want.Uid, want.Gid, have.Uid, have.Gid)
	case have.Mtim != want.Mtim:
		return fmt.Errorf("%w: mtime %d.%09d became %d.%09d", errCannotHold, want.Mtim.Sec, want.Mtim.Nsec, have.Mtim.Sec, have.Mtim.Nsec)
	case want.Mode&unix.S_IFMT == unix.S_IFREG && have.Size != want.Size:
		return fmt.Errorf("%w: size %d became %d", errCannotHold, want.Size, have.Size)
	}
	return nil
}

// copyXattrs makes the extended attributes of to those of from, whose names are given. changed: it did something. A BadFile error is of the first
// that could not be set.
func copyXattrs(from, to node, names []string) (changed bool, err error) {
	var failed firstBad
	old, err := to.xattrNames()
	if err != nil {
		return false, writeError(from.path, "list the attributes of", err)
	}
	keep := make(map[string]bool, len(names))
	for _, name := range names {
		keep[name] = true
	}
	for _, name := range old {
		if keep[name] {
			continue
		}
		changed = true
		err := to.removeXattr(name)
		if err == unix.ENODATA { // a default ACL that is gone already is no failure
			continue
		}
		if err = writeError(from.path, fmt.Sprintf("remove attribute %q of", name), err); failed.stops(err) {
			return true, err
		}
	}
	for _, name := range names {
		value, err := from.xattrValue(name)
		if err = readError(from.path, fmt.Sprintf("read attribute %q of", name), err); failed.stops(err) {
			return changed, err
		} else if err != nil {
			continue
		}
		changed = true
		if err := to.setXattr(name, value); err != nil {
			if err = xattrError(to.dir, from.path, name, err); failed.stops(err) {
				return true, err
			}
		}
	}
	return changed, failed.err
}
