package lvm

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountPoints are the mounts that a process sees, in the order in which they cover each other.
func mountPoints(pid string) ([]*mountinfo.Info, error) {
	f, err := os.Open("/proc/" + pid + "/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return mountinfo.GetMountsFromReader(f, nil)
}

// numberOf is the device of a mount, as in st_rdev.
func numberOf(m *mountinfo.Info) uint64 { return unix.Mkdev(uint32(m.Major), uint32(m.Minor)) }

// mountedAt is the mount that one sees at a path; false when nothing is mounted there.
func mountedAt(all []*mountinfo.Info, path string) (m *mountinfo.Info, ok bool) {
	for _, each := range all {
		if each.Mountpoint == path {
			m, ok = each, true
		}
	}
	return m, ok
}

// placeOf tells where all of the filesystem on a device is mounted; "" when it is not. We may live in a mount namespace of
// our own: then the system's is looked at too.
func placeOf(dev uint64) (string, error) {
	for _, pid := range []string{"self", "1"} {
		all, err := mountPoints(pid)
		if pid == "1" && (errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist)) {
			continue
		}
		if err != nil {
			return "", err
		}
		for _, m := range all {
			if numberOf(m) == dev && m.Root == "/" && !strings.Contains(m.VFSOptions, "norecovery") && !strings.Contains(m.VFSOptions, "noload") {
				return m.Mountpoint, nil
			}
		}
	}
	return "", nil
}
