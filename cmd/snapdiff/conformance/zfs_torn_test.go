package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/job"
)

// TestZFSTorn sets attributes that are files, each once, while snapshots are taken: their values and the times of their files are in two transactions, and
// a snapshot may lie between. (Without delays one processor gets from the one to the other too quickly.)
func TestZFSTorn(t *testing.T) {
	b := zfsBench(t, "-o", "xattr=dir")
	count, rounds := 600, 2
	if Soak() {
		count, rounds = 6000, 20
	}
	name := func(i int) string { return filepath.Join(b.origin.dir, fmt.Sprintf("d%d/f%05d", i/100, i)) }
	for i := range count {
		if i%100 == 0 {
			b.must(os.Mkdir(filepath.Dir(name(i)), 0o755))
		}
		b.must(os.WriteFile(name(i), []byte("x"), 0o644))
		b.must(unix.Setxattr(name(i), "user.x", []byte("old"), 0))
	}
	b.run()
	parameter := func(name, value string) (was string) {
		path := "/sys/module/zfs/parameters/" + name
		old, err := os.ReadFile(path)
		b.must(err)
		b.must(os.WriteFile(path, []byte(value), 0o644))
		return strings.TrimSpace(string(old))
	}
	next := 0
	for range rounds {
		var stop atomic.Bool
		done := make(chan int)
		scale, dirty := parameter("zfs_delay_scale", "10000000000"), parameter("zfs_delay_min_dirty_percent", "0")
		go func(i int) {
			for ; i < count && !stop.Load(); i++ {
				if err := unix.Setxattr(name(i), "user.x", []byte("new"), 0); err != nil {
					t.Error(err)
				}
			}
			done <- i
		}(next)
		running := true
		settle := func() {
			if running {
				running = false
				stop.Store(true)
				next = <-done
				parameter("zfs_delay_scale", scale)
				parameter("zfs_delay_min_dirty_percent", dirty)
			}
		}
		_, err := job.Run(t.Context(), b.job, job.Options{Say: func(format string, _ ...any) {
			if format == "snapshot %s" {
				settle()
			}
		}})
		settle()
		b.must(err)
	}
	b.native()
	b.native()
}
