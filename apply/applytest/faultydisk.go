package applytest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FaultyDisk is a disk with a filesystem that can be made to fail: device-mapper's tables over a loop device. NeedLVM tells where
// there is one.
type FaultyDisk struct {
	testing.TB
	Dir          string // where it is mounted
	kind         Kind
	device, name string
	sectors      int64
}

// NewFaultyDisk makes a disk, which is well, and mounts it.
func NewFaultyDisk(t testing.TB, kind Kind, size int64) *FaultyDisk {
	t.Helper()
	NeedLVM(t)
	modprobe(t, "dm-flakey")
	base := t.TempDir()
	image := filepath.Join(base, "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := &FaultyDisk{TB: t, Dir: filepath.Join(base, "mnt"), kind: kind, name: fmt.Sprintf("snapdiff-faulty-%d", os.Getpid()), sectors: size / 512}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d.device = attachLoop(t, image)
	dmsetup(d, "create", d.name, "--table", d.well())
	t.Cleanup(func() { dmsetup(d, "remove", "--retry", d.name) })
	argv := append(mkfs[kind][:len(mkfs[kind]):len(mkfs[kind])], d.path())
	command(t, argv[0], argv[1:]...)
	d.mount()
	t.Cleanup(func() { unmount(t, d.Dir) })
	removeLostAndFound(t, d.Dir)
	return d
}

func (d *FaultyDisk) path() string { return "/dev/mapper/" + d.name }

func (d *FaultyDisk) mount() {
	d.Helper()
	command(d, "mount", "-t", string(d.kind), d.path(), d.Dir)
}

func (d *FaultyDisk) well() string { return fmt.Sprintf("0 %d linear %s 0", d.sectors, d.device) }

// load puts another table in the place of the present one, also where a filesystem cannot be frozen any more.
func (d *FaultyDisk) load(table string) {
	d.Helper()
	dmsetup(d, "suspend", "--nolockfs", d.name)
	dmsetup(d, "load", d.name, "--table", table)
	dmsetup(d, "resume", d.name)
}

// Unplug has every read and write of the disk fail from now on.
func (d *FaultyDisk) Unplug() {
	d.Helper()
	d.load(fmt.Sprintf("0 %d error", d.sectors))
}

// FailWrites has every write fail; reads still work.
func (d *FaultyDisk) FailWrites() {
	d.Helper()
	d.load(fmt.Sprintf("0 %d flakey %s 0 0 3600 1 error_writes", d.sectors, d.device))
}

// Mend makes the disk well again and mounts it anew.
func (d *FaultyDisk) Mend() {
	d.Helper()
	command(d, "umount", d.Dir)
	d.load(d.well())
	d.mount()
}

// attachLoop gives an image a loop device until the test ends.
func attachLoop(t testing.TB, image string) string {
	t.Helper()
	device := strings.TrimSpace(command(t, "losetup", "-f", "--show", image))
	t.Cleanup(func() { run("losetup", "-d", device) })
	return device
}
