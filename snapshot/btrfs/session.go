package btrfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fsInfoArgs is struct btrfs_ioctl_fs_info_args, what matters of it.
type fsInfoArgs struct {
	MaxID, NumDevices uint64
	FSID              [16]byte
	_                 [992]byte
}

// session names the time for which the filesystem of a descriptor has been mounted without a break: by the boot of the machine and the number of
// the directory that the kernel makes for it in /sys/fs/btrfs when it is mounted first, and takes away when it is unmounted last. Such numbers
// are not given away again (kernfs, id_highbits in fs/kernfs/dir.c). "" where that is not to be seen.
func session(fd int) string {
	var info fsInfoArgs
	if ioctl(fd, iocFSInfo, unsafe.Pointer(&info)) != nil {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	var st unix.Stat_t
	if unix.Stat(filepath.Join("/sys/fs/btrfs", UUID(info.FSID).String()), &st) != nil {
		return ""
	}
	return fmt.Sprintf("%s/%d", strings.TrimSpace(string(boot)), st.Ino)
}
