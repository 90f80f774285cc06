// Package probe proves that the test machine can do what tests of ZFS and LVM sources rest on. It runs only in there.
package probe

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sh runs a shell command that must succeed and gives its output.
func sh(t *testing.T, command string) string {
	t.Helper()
	cmd := exec.Command("bash", "-ec", command)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", command, err, out, errs.String())
	}
	return string(out)
}

func TestZFS(t *testing.T) {
	dir := t.TempDir()
	sh(t, `modprobe zfs; truncate -s 256M `+dir+`/vdev; zpool create -m `+dir+`/pool probe `+dir+`/vdev`)
	t.Cleanup(func() { sh(t, "zpool destroy probe") })
	file := filepath.Join(dir, "pool", "file")
	if err := os.WriteFile(file, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	sh(t, "zfs snapshot probe@base; zfs hold keep probe@base")
	if err := os.WriteFile(file, []byte("after, and longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	sh(t, "zfs snapshot probe@next")
	stream := sh(t, "zfs send -i @base probe@next | zstream dump -v")
	if !strings.Contains(stream, "OBJECT object = ") || !strings.Contains(stream, "WRITE object = ") {
		t.Errorf("the incremental stream shows no object:\n%s", stream)
	}
	if got := sh(t, "cat "+dir+"/pool/.zfs/snapshot/base/file"); got != "before" {
		t.Errorf("the base holds %q", got)
	}
	sh(t, "zfs release keep probe@base")
}

func TestLVM(t *testing.T) {
	dir := t.TempDir()
	sh(t, `for m in dm-mod dm-thin-pool dm-snapshot; do modprobe $m; done; pvcreate -q /dev/ubda; vgcreate -q probe /dev/ubda`)
	t.Cleanup(func() { sh(t, "umount "+dir+" || true; vgremove -q -f probe; pvremove -q /dev/ubda") })
	t.Run("thin", func(t *testing.T) {
		sh(t, `lvcreate -q -L 512M -T probe/pool; lvcreate -q -V 256M -T probe/pool -n thin; mkfs.ext4 -q /dev/probe/thin
			mount /dev/probe/thin `+dir+`; echo before > `+dir+`/file; lvcreate -q -s -n base probe/thin
			echo after > `+dir+`/file; lvcreate -q -s -n next probe/thin; umount `+dir)
		delta := sh(t, `dmsetup message probe-pool-tpool 0 reserve_metadata_snap
			trap 'dmsetup message probe-pool-tpool 0 release_metadata_snap' EXIT
			thin_delta -m --snap1 $(lvs --noheadings -o thin_id probe/base) --snap2 $(lvs --noheadings -o thin_id probe/next) /dev/mapper/probe-pool_tmeta`)
		if !strings.Contains(delta, "<different ") && !strings.Contains(delta, "<right_only ") {
			t.Errorf("thin_delta shows no difference:\n%s", delta)
		}
	})
	t.Run("classic", func(t *testing.T) {
		sh(t, `lvcreate -q -L 400M -n classic probe; mkfs.xfs -q /dev/probe/classic; mount /dev/probe/classic `+dir+`
			echo before > `+dir+`/file; lvcreate -q -L 100M -s -n old probe/classic; echo after > `+dir+`/file; umount `+dir+`
			mount -o ro,norecovery,nouuid /dev/probe/old `+dir)
		if got := sh(t, "cat "+dir+"/file; umount "+dir); got != "before\n" {
			t.Errorf("the snapshot holds %q", got)
		}
		if got := sh(t, "head -c 4 /dev/mapper/probe-old-cow"); got != "SnAp" {
			t.Errorf("the COW device starts with %q", got)
		}
	})
}
