package zfs

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
)

// Mount mounts the snapshot of this full name for this process alone, read-only, nodev, nosuid and noexec. No directory is
// needed for it, whatever mountpoint, canmount and snapdir are, and nobody else sees it: it hangs on a descriptor and goes with it,
// also when the process is killed. release must be called after the Root was closed.
func Mount(name string) (root *beneath.Root, release func() error, err error) {
	fd, err := attach(name, true)
	if err != nil {
		return nil, nil, fmt.Errorf("mount snapshot %s: %w", name, err)
	}
	root, err = beneath.Open("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		unix.Close(fd)
		return nil, nil, fmt.Errorf("open the mounted snapshot %s: %w", name, err)
	}
	return root, func() error { return unix.Close(fd) }, nil
}

// attach mounts a snapshot or a dataset by fsopen(2), fsconfig(2) and fsmount(2). Of a dataset that is mounted it gives another view;
// unix.EBUSY if it is mounted read-only and readOnly is not set.
func attach(name string, readOnly bool) (int, error) {
	config, err := unix.Fsopen("zfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(config)
	if err := unix.FsconfigSetString(config, "source", name); err != nil {
		return -1, err
	}
	if readOnly {
		if err := unix.FsconfigSetFlag(config, "ro"); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(config); err != nil {
		return -1, err
	}
	return unix.Fsmount(config, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
}
