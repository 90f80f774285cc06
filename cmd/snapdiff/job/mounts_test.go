package job

import (
	"os"
	"strings"
	"testing"
)

func TestParseMount(t *testing.T) {
	for line, want := range map[string]mountInfo{
		"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 propagate:2 - ext3 /dev/root rw,errors=continue": {36, "/mnt 2", "ext3", "/dev/root"},
		"36 35 0:44 / /mnt rw - btrfs /dev/sd\\134b rw":                                                   {36, "/mnt", "btrfs", `/dev/sd\b`},
	} {
		if got, ok := parseMount(line); !ok || got != want {
			t.Errorf("%s: %+v %v, want %+v", line, got, ok, want)
		}
	}
	for _, line := range []string{"", "36 35 98:0 / / rw", "x 35 98:0 / / rw - ext4 /dev/a rw"} {
		if got, ok := parseMount(line); ok {
			t.Errorf("%q: %+v, want a refusal", line, got)
		}
	}
}

func TestDisk(t *testing.T) {
	same := func(a, b mountInfo) bool { return a.disk() == b.disk() }
	if !same(mountInfo{FSType: "zfs", Source: "tank/mail"}, mountInfo{FSType: "zfs", Source: "tank"}) {
		t.Error("two datasets of one pool are on one disk")
	}
	if same(mountInfo{FSType: "zfs", Source: "tank/a"}, mountInfo{FSType: "zfs", Source: "dozer/a"}) {
		t.Error("two pools are two")
	}
	if same(mountInfo{ID: 1, FSType: "tmpfs", Source: "none"}, mountInfo{ID: 2, FSType: "tmpfs", Source: "none"}) {
		t.Error("two mounts without a device are two")
	}
}

func TestMountOf(t *testing.T) {
	m, err := mountOf("/proc/self/no/such/file")
	if err != nil || m.FSType != "proc" || m.Point != "/proc" {
		t.Errorf("%+v %v", m, err)
	}
}

func TestKnowsFilesystem(t *testing.T) {
	const text = "nodev\tproc\nnodev\tbtrfs-not\n\text4\n"
	if knowsFilesystem(text, "btrfs") || !knowsFilesystem(text, "ext4") || !knowsFilesystem(text, "proc") {
		t.Error("names are whole words at the end of a line")
	}
}

func FuzzParseMount(f *testing.F) {
	if data, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			f.Add(line)
		}
	}
	f.Add("36 35 98:0 / \\04 rw - a \\777 b")
	f.Fuzz(func(t *testing.T, line string) {
		if m, ok := parseMount(line); ok && len(m.Point) > len(line) {
			t.Errorf("%q: %+v", line, m)
		}
	})
}
