package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/job"
)

// TestLargeFiles changes a large file in scattered places. On every kind of source a run reads and writes little more than that, and
// keeps no more: on a mirror that clones (XFS), and on one that is patched in place (ext4), where history has the old blocks alone.
func TestLargeFiles(t *testing.T) {
	const (
		size    = 32 << 20
		changes = 50
		block   = 4096
		// What a source tells of a change: records of ZFS, blocks of a thin pool. Read on both sides to find out, and once more to copy.
		told = 128 << 10
	)
	for _, d := range drivers {
		for _, mirror := range []Kind{Ext4, XFS} {
			t.Run(d.name+"/"+string(mirror), func(t *testing.T) {
				b := newBench(t, d, mirror)
				Apply(t, b.origin.dir, Create("large", size, 1), Fsync("large"))
				b.run()
				for i := range int64(changes) {
					Apply(t, b.origin.dir, Write("large", i*(size/changes)/block*block, block, 2))
				}
				Apply(t, b.origin.dir, Fsync("large"))
				used, before := b.used(), ownIO(t)
				if _, err := job.Run(t.Context(), b.job, job.Options{Say: b.Logf}); err != nil {
					t.Fatal(err)
				}
				after := ownIO(t)
				read, wrote, grew := after[0]-before[0], after[1]-before[1], b.used()-used
				t.Logf("%d KiB changed: read %d KiB, wrote %d KiB, the store grew by %d KiB", changes*block>>10, read>>10, wrote>>10, grew>>10)
				most := int64(2*changes*block + 1<<20) // history and mirror; catalog and manifest
				if d.name == "zfs" {
					most += changes * told * 21 / 20 // zfs send writes its stream into a pipe
					if mirror == XFS {
						most += changes * told // whole records go into the clone
					}
				}
				if read > 4*changes*told || wrote > most || grew > 2*changes*told {
					t.Error("that is too much")
				}
				saved := int64(0)
				b.must(filepath.Walk(filepath.Join(b.job.Store, "history"), func(path string, info os.FileInfo, err error) error {
					if filepath.Ext(path) == ".saved" {
						saved += info.Sys().(*syscall.Stat_t).Blocks * 512
					}
					return err
				}))
				if mirror == Ext4 && (saved < changes*block || saved > 2*changes*block) {
					t.Errorf("history has %d bytes of it, %d changed", saved, changes*block)
				}
				b.past["r2"] = b.judge()
				b.judgePast()
			})
		}
	}
}

// used is how much of the mirror's filesystem is in use, in bytes.
func (b *bench) used() int64 {
	b.Helper()
	fd, err := unix.Open(b.job.Store, unix.O_RDONLY, 0)
	b.must(err)
	defer unix.Close(fd)
	b.must(unix.Syncfs(fd))
	var st unix.Statfs_t
	b.must(unix.Fstatfs(fd, &st))
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// ownIO is how many bytes this process has read and written so far, whether from a disk or from memory.
func ownIO(t *testing.T) (n [2]int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err == nil {
		_, err = fmt.Sscanf(string(text), "rchar: %d\nwchar: %d\n", &n[0], &n[1])
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}
