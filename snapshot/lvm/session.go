package lvm

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// statxMountUnique is STATX_MNT_ID_UNIQUE of linux/stat.h: a number of the mount that is never used again. Linux 6.8 and
// later know it.
const statxMountUnique = 0x4000

// session names the time for which a volume has been mounted without a break, as well as that can be known: the boot of the
// machine, the activation of the volume (diskseq, Linux 5.15) and the mount. "" when it is not mounted, or not seen to be.
func session(v Volume) string {
	var st unix.Stat_t
	if unix.Stat(v.Device, &st) != nil {
		return ""
	}
	place, err := placeOf(st.Rdev)
	if err != nil || place == "" {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	activation, _ := sysfs(st.Rdev, "diskseq") // "" on old kernels
	var stx unix.Statx_t
	var mount uint64
	if unix.Statx(unix.AT_FDCWD, place, unix.AT_NO_AUTOMOUNT, statxMountUnique, &stx) == nil && stx.Mask&statxMountUnique != 0 {
		mount = stx.Mnt_id
	}
	return fmt.Sprintf("%s/%s/%d", strings.TrimSpace(string(boot)), activation, mount)
}
