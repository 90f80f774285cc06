package applytest

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMount(t *testing.T) {
	NeedRoot(t)
	magic := map[Kind]int64{Btrfs: unix.BTRFS_SUPER_MAGIC, Ext4: unix.EXT4_SUPER_MAGIC, XFS: unix.XFS_SUPER_MAGIC}
	for kind, want := range magic {
		t.Run(string(kind), func(t *testing.T) {
			dir := Mount(t, kind)
			var st unix.Statfs_t
			if err := unix.Statfs(dir, &st); err != nil || int64(st.Type) != want {
				t.Errorf("type %#x, %v; want %#x", st.Type, err, want)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
				t.Errorf("a new filesystem holds %v, %v", entries, err)
			}
		})
	}
}
