package job

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountOf finds the mount that holds path. A path that does not exist is held by what holds its nearest parent that does.
func mountOf(path string) (*mountinfo.Info, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, existing(path), 0, unix.STATX_MNT_ID, &st)
	if err != nil {
		return nil, fmt.Errorf("find the mount of %s: %w", path, err)
	}
	all, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return uint64(m.ID) != st.Mnt_id, false })
	if err != nil {
		return nil, fmt.Errorf("find the mount of %s: %w", path, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("find the mount of %s: it is not in /proc/self/mountinfo", path)
	}
	return all[0], nil
}

// MountPoints are where filesystems of a type are mounted, in the order in which they were.
func MountPoints(fstype string) (points []string, err error) {
	all, err := mountinfo.GetMounts(mountinfo.FSTypeFilter(fstype))
	if err != nil {
		return nil, fmt.Errorf("look what is mounted: %w", err)
	}
	for _, m := range all {
		points = append(points, m.Mountpoint)
	}
	return points, nil
}

// diskOf is what two paths on one filesystem have in common: the device, or the pool where filesystems share one. (st_dev is
// no help: every btrfs subvolume has its own.)
func diskOf(m *mountinfo.Info) string {
	if m.FSType == "zfs" {
		pool, _, _ := strings.Cut(m.Source, "/")
		return "zfs:" + pool
	}
	if !strings.HasPrefix(m.Source, "/") {
		return fmt.Sprintf("mount:%d", m.ID)
	}
	return m.Source
}

// existing is the nearest parent of path that exists, or path itself.
func existing(path string) string {
	for path != "/" {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path
		}
		path = filepath.Dir(path)
	}
	return path
}
