package job

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountInfo is one line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mountInfo struct {
	ID     uint64 // as in stx_mnt_id of statx(2)
	Point  string // where it is mounted
	FSType string // "ext4", "fuse.sshfs"
	Source string // usually the device
}

// mountOf finds the mount that holds path. A path that does not exist is held by what holds its nearest parent that does.
func mountOf(path string) (mountInfo, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, existing(path), 0, unix.STATX_MNT_ID, &st)
	if err != nil {
		return mountInfo{}, fmt.Errorf("find the mount of %s: %w", path, err)
	}
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return mountInfo{}, fmt.Errorf("find the mount of %s: %w", path, err)
	}
	for line := range strings.Lines(string(data)) {
		if m, ok := parseMount(line); ok && m.ID == st.Mnt_id {
			return m, nil
		}
	}
	return mountInfo{}, fmt.Errorf("find the mount of %s: it is not in /proc/self/mountinfo", path)
}

// MountPoints are where filesystems of a type are mounted, in the order in which they were.
func MountPoints(fstype string) (points []string, err error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("look what is mounted: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if m, ok := parseMount(line); ok && m.FSType == fstype {
			points = append(points, m.Point)
		}
	}
	return points, nil
}

// parseMount reads one line: "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue".
func parseMount(line string) (m mountInfo, ok bool) {
	fields := strings.Fields(line)
	for i := 6; i+2 < len(fields); i++ { // any number of optional fields ends with "-"
		if fields[i] != "-" {
			continue
		}
		id, err := strconv.ParseUint(fields[0], 10, 64)
		return mountInfo{ID: id, Point: unescapeMount(fields[4]), FSType: fields[i+1], Source: unescapeMount(fields[i+2])}, err == nil
	}
	return m, false
}

// unescapeMount undoes the kernel's \040 for blank, tab, newline and backslash.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// disk is what two paths on one filesystem have in common: the device, or the pool where filesystems share one. (st_dev is
// no help: every btrfs subvolume has its own.)
func (m mountInfo) disk() string {
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
