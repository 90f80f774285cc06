package job

import (
	"testing"

	"github.com/moby/sys/mountinfo"
)

func TestDisk(t *testing.T) {
	same := func(a, b mountinfo.Info) bool { return diskOf(&a) == diskOf(&b) }
	if !same(mountinfo.Info{FSType: "zfs", Source: "tank/mail"}, mountinfo.Info{FSType: "zfs", Source: "tank"}) {
		t.Error("two datasets of one pool are on one disk")
	}
	if same(mountinfo.Info{FSType: "zfs", Source: "tank/a"}, mountinfo.Info{FSType: "zfs", Source: "dozer/a"}) {
		t.Error("two pools are two")
	}
	if same(mountinfo.Info{ID: 1, FSType: "tmpfs", Source: "none"}, mountinfo.Info{ID: 2, FSType: "tmpfs", Source: "none"}) {
		t.Error("two mounts without a device are two")
	}
}

func TestMountOf(t *testing.T) {
	m, err := mountOf("/proc/self/no/such/file")
	if err != nil || m.FSType != "proc" || m.Mountpoint != "/proc" {
		t.Errorf("%+v %v", m, err)
	}
}

func TestKnowsFilesystem(t *testing.T) {
	const text = "nodev\tproc\nnodev\tbtrfs-not\n\text4\n"
	if knowsFilesystem(text, "btrfs") || !knowsFilesystem(text, "ext4") || !knowsFilesystem(text, "proc") {
		t.Error("names are whole words at the end of a line")
	}
}
