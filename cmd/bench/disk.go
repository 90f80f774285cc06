package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// bytesPerFile is room for one small file on any of the filesystems, history and metadata included. The loop files are sparse.
const bytesPerFile = 24 << 10

// baseBytes is what a filesystem gets whatever the number of files.
const baseBytes = 2 << 30

// enoughSpace refuses early: a benchmark on a full disk measures nothing. The source and one target exist at a time, and the target
// has some of the files twice.
func enoughSpace(o options) error {
	var st unix.Statfs_t
	if err := unix.Statfs(o.dir, &st); err != nil {
		return fmt.Errorf("free space of %s: %w", o.dir, err)
	}
	perFile := 2*int64((o.bytes+4095)/4096*4096) + 2048
	have, want := int64(st.Bavail)*st.Bsize, int64(o.files)*perFile*3/2+baseBytes
	if have < want {
		return fmt.Errorf("%s has %d MB free, %d files need %d MB: choose another folder with -dir, or fewer files", o.dir, have>>20, o.files, want>>20)
	}
	return nil
}

// disk is a filesystem in a loop file.
type disk struct{ image, device, mount string }

// newDisk makes and mounts a filesystem with room for so many files.
func newDisk(work, name, kind string, files int) (*disk, error) {
	d := &disk{image: filepath.Join(work, name+".img"), mount: filepath.Join(work, name)}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(d.image, int64(files)*bytesPerFile+baseBytes); err != nil {
		return nil, err
	}
	if err := os.Mkdir(d.mount, 0o700); err != nil {
		return nil, err
	}
	mkfs := map[string][]string{
		"btrfs": {"mkfs.btrfs", "-q", "-m", "single"},
		"ext4":  {"mkfs.ext4", "-q", "-N", fmt.Sprint(files + files/4 + 50_000), "-E", "lazy_itable_init=0,lazy_journal_init=0"},
		"xfs":   {"mkfs.xfs", "-q"},
	}[kind]
	if mkfs == nil {
		return nil, fmt.Errorf("no filesystem %q: ext4, xfs or btrfs", kind)
	}
	// Direct: as with a disk, several reads are under way at once, and nothing is cached twice.
	out, err := exec.Command("losetup", "--find", "--show", "--direct-io=on", d.image).Output()
	if err != nil {
		return nil, fmt.Errorf("losetup %s: %w", d.image, err)
	}
	d.device = strings.TrimSpace(string(out))
	if err = command(append(mkfs, d.device)...); err == nil {
		err = command("mount", "-o", "noatime", d.device, d.mount)
	}
	if err != nil {
		return nil, errors.Join(err, command("losetup", "--detach", d.device))
	}
	return d, command("losetup", "--detach", d.device) // by the kernel, when it is unmounted
}

// remove unmounts and deletes it.
func (d *disk) remove() error {
	if err := command("umount", d.mount); err != nil {
		return err
	}
	return os.Remove(d.image)
}

// command runs a helper program; its output is in the error.
func command(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
