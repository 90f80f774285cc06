package lvm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot"
)

// unknownSession begins the Session of a mark of which it is not known.
const unknownSession = "unknown "

// Session names the time for which the source had been mounted without a break when the snapshot was taken; "" where that is not known: it was not mounted
// here, or somebody else took it.
func Session(m snapshot.Mark) string {
	if strings.HasPrefix(m.Session, unknownSession) {
		return ""
	}
	return m.Session
}

// session names the time for which the filesystem on a volume has been mounted without a break: by the boot of the machine and
// the number of the directory that the kernel makes for it in /sys/fs when it is mounted first, and takes away when it is
// unmounted last. Such numbers are not given away again (kernfs, id_highbits in fs/kernfs/dir.c). "" when it is not mounted, or
// not seen to be.
func session(v Volume) string {
	var st unix.Stat_t
	if unix.Stat(v.Device, &st) != nil {
		return ""
	}
	link, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	if err != nil {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	for _, kind := range []string{"ext4", "xfs"} {
		if unix.Stat(filepath.Join("/sys/fs", kind, filepath.Base(link)), &st) == nil {
			return fmt.Sprintf("%s/%d", strings.TrimSpace(string(boot)), st.Ino)
		}
	}
	return ""
}
