package job

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/source"
)

// checkRoot refuses to go on without root: a mirror whose owners cannot be set is none.
func checkRoot() error {
	if os.Geteuid() != 0 {
		return hint.With(errors.New("only root can take snapshots and read and own every file"), "sudo snapdiff ...")
	}
	if inUserNamespace() {
		return hint.With(errors.New("root of a container (a user namespace) can neither mount snapshots nor own every file"),
			"run snapdiff on the machine itself, or in a container without a user namespace")
	}
	return nil
}

// inUserNamespace tells that our root is not the machine's: not all users are what they are there.
func inUserNamespace() bool {
	users, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(users)), " ") != "0 0 4294967295"
}

// checkPlace refuses places for the store where a mirror cannot be or can come to harm. It changes nothing.
func checkPlace(ctx context.Context, j config.Job, src source.Source) error {
	for _, check := range []func() error{
		func() error { return checkInside(ctx, j, src) },
		func() error { return checkNetwork(j) },
		func() error { return checkOwner(j.Store) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkInside refuses a store inside the source (each run would copy the store) and a source inside the store. What is mounted in the source from
// another disk is not in it.
func checkInside(ctx context.Context, j config.Job, src source.Source) error {
	inside, err := isInside(ctx, j, src)
	if err != nil {
		return fmt.Errorf("find out whether the store lies inside the source: %w", err)
	}
	if inside {
		return hint.With(fmt.Errorf("the store %s lies inside the source %s", j.Store, j.Source), "put the store on another disk, or mount that")
	}
	if src.Dir() == "" {
		return nil
	}
	dir, err := filepath.EvalSymlinks(src.Dir())
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if within(dir, realPath(j.Store)) {
		return hint.With(fmt.Errorf("the source %s lies inside the store %s", j.Source, j.Store), "put the store on another disk")
	}
	return nil
}

// isInside tells whether the store is in the filesystem of the source, wherever that is mounted too, or in one that is taken with it.
func isInside(ctx context.Context, j config.Job, src source.Source) (bool, error) {
	at := existing(j.Store)
	to, unknown := mountOf(at) // in a chroot it may not be listed
	if dir := src.Dir(); dir != "" {
		var top, store unix.Stat_t
		if err := errors.Join(unix.Stat(dir, &top), unix.Stat(at, &store)); err != nil {
			return false, err
		}
		if top.Dev == store.Dev { // btrfs has one for each subvolume, ZFS for each dataset
			return true, nil
		}
		from, err := mountOf(dir)
		if err == nil && unknown == nil && diskOf(from) != diskOf(to) {
			return false, nil
		}
		if real, err := filepath.EvalSymlinks(dir); err != nil || within(realPath(j.Store), real) {
			return true, err
		}
	}
	f, ok := src.(source.Follower)
	if !ok || unknown != nil || to.FSType != src.Kind() {
		return false, nil
	}
	return f.Follows(ctx, at, to.Source)
}

// realPath resolves the symlinks in that part of a path which exists.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil || path == "/" {
		return real
	}
	return filepath.Join(realPath(filepath.Dir(path)), filepath.Base(path))
}

func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// sharedDisk says that source and store are on one filesystem, so that what destroys one destroys the other; "" if they are
// not, or if it cannot be told.
func sharedDisk(j config.Job, src source.Source) string {
	if src.Dir() == "" {
		return ""
	}
	from, err := mountOf(src.Dir())
	if err != nil {
		return ""
	}
	to, err := mountOf(j.Store)
	if err != nil || diskOf(from) != diskOf(to) {
		return ""
	}
	return fmt.Sprintf("the store %s is on the same filesystem (%s) as the source %s: what destroys one destroys both", j.Store, to.Source, j.Source)
}

// onRoot says that the store is on the root filesystem, most often since the backup disk is not mounted yet; "" if it is not.
func onRoot(store string) string {
	var root, at unix.Stat_t
	if unix.Stat("/", &root) != nil || unix.Stat(existing(store), &at) != nil || root.Dev != at.Dev {
		return ""
	}
	return fmt.Sprintf("the store %s is on the root filesystem, which it can fill: if a backup disk is to be mounted there, remove the store, mount the disk and run init again", store)
}

// networks are filesystems, by f_type of statfs(2), where SQLite's locks and shared memory do not hold. FUSE is among them:
// behind it are sshfs, rclone, glusterfs and the like. (linux/magic.h and the filesystems' own headers.)
var networks = map[uint32]string{
	unix.NFS_SUPER_MAGIC: "NFS", 0xff534d42: "CIFS", 0xfe534d42: "SMB", 0x517b: "SMB", unix.FUSE_SUPER_MAGIC: "FUSE", unix.V9FS_MAGIC: "9P",
	unix.AFS_SUPER_MAGIC: "AFS", 0x6b414653: "AFS", 0x00c36400: "Ceph", 0x0bd00bd0: "Lustre", 0x01161970: "GFS2", 0x7461636f: "OCFS2", unix.CODA_SUPER_MAGIC: "Coda",
}

// networkOf names the network filesystem that holds path, "" when it is a local one.
func networkOf(path string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(existing(path), &st); err != nil {
		return "", fmt.Errorf("look at the filesystem of %s: %w", path, err)
	}
	return networks[uint32(st.Type)], nil
}

// checkNetwork refuses a catalog on a network filesystem.
func checkNetwork(j config.Job) error {
	place, what := j.Catalog, "catalog"
	if place == "" {
		place, what = j.Store, "store"
	}
	network, err := networkOf(place)
	if err != nil || network == "" {
		return err
	}
	return hint.With(fmt.Errorf("the %s %s is on a network filesystem (%s), where the catalog can come to harm", what, place, network),
		`keep the catalog on a local disk: catalog = "/var/lib/snapdiff/%s.db" in [jobs.%s]`, j.Name, j.Name)
}

// checkOwner refuses a store of somebody else, who could change it while root works in it. One that is not there is
// none's.
func checkOwner(store string) error {
	var st unix.Stat_t
	err := unix.Stat(store, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the store %s: %w", store, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return hint.With(fmt.Errorf("the store %s is no directory", store), "correct store in the configuration")
	case int(st.Uid) != os.Geteuid():
		return hint.With(fmt.Errorf("the store %s is not ours: it belongs to user %d, who could change it", store, st.Uid), "chown root: %s", store)
	case st.Mode&0o022 != 0 && !empty(store):
		return hint.With(fmt.Errorf("the store %s can be written by others (mode %04o), who could change it", store, st.Mode&0o7777), "look at what they did (snapdiff verify), then chmod 0700 %s", store)
	}
	return nil
}

// empty tells a directory with nothing in it: init closes it to others.
func empty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// checkWritable refuses a store on a disk that is mounted read-only.
func checkWritable(store string) error {
	at := existing(store)
	err := unix.Access(at, unix.W_OK)
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EROFS) {
		if m, err := mountOf(at); err == nil {
			at = m.Mountpoint
		}
		return &DiskFails{fmt.Errorf("the store %s is on a filesystem that is mounted read-only", store), "if it did not fail (see dmesg): mount -o remount,rw " + at}
	}
	return hint.With(fmt.Errorf("the store %s cannot be written: %w", store, err), "look at its mode and attributes: ls -ld %s; lsattr -d %s", at, at)
}

// checkAdopted refuses to adopt what is no copy that history can be kept of.
func checkAdopted(store string) error {
	tree := filepath.Join(store, "tree")
	var top, st unix.Stat_t
	if err := errors.Join(unix.Lstat(store, &top), unix.Lstat(tree, &st)); err != nil {
		return hint.With(fmt.Errorf("there is no copy to adopt: %s: %w", tree, err), "move the copy to %s, on the same filesystem", tree)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("there is no copy to adopt: %s is no directory", tree)
	case st.Dev != top.Dev:
		return hint.With(fmt.Errorf("%s is on another filesystem than %s: what a run replaces could not be moved into history", tree, store),
			"set store to a directory on the filesystem of the copy, and move the copy to tree in it")
	}
	return nil
}
