package apply_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
)

// TestPruneManyWithoutInodes: on a disk whose inodes are all used one prune drops as many restore points as it is told to, with no more of them
// than the store has set aside, and one that is in use stays.
func TestPruneManyWithoutInodes(t *testing.T) {
	dir := MountSized(t, Ext4, 320<<20, "-N", "3000")
	p := &pruneRig{&rig{t: t, source: Subvolume(t, filepath.Join(Mount(t, Btrfs), "src")), store: filepath.Join(dir, "store")}, map[int64]string{}}
	must(t, os.Mkdir(filepath.Join(p.source, ".snapdiff"), 0o700))
	must(t, apply.Init(p.store))
	const points = 110
	var drop []int64
	for i := range points {
		sh(t, p.source, fmt.Sprintf("echo %d > f; echo %d > f%d; mv m%d m%d 2>/dev/null || echo m > m%d", i, i, i%7, i, i+1, i+1))
		must(t, p.run(apply.Options{}))
		if run := int64(i + 1); i%40 == 20 || i > points-3 {
			p.want[run] = p.portrait(run)
		} else {
			drop = append(drop, run)
		}
	}
	s, err := apply.Open(p.store)
	must(t, err)
	must(t, s.KeepSpare())
	must(t, s.Close())
	used, err := apply.OpenView(p.store, "", drop[70])
	must(t, err)
	defer used.Close()
	p.want[drop[70]] = p.portrait(drop[70])
	free := FillInodes(t, dir)
	must(t, apply.UseSpare(p.store))
	done, err := p.prune(nil, drop...)
	must(t, err)
	if len(done.Dropped) != len(drop)-1 || len(done.InUse) != 1 || done.InUse[0] != drop[70] {
		t.Errorf("%d of %d were dropped, in use are %v", len(done.Dropped), len(drop), done.InUse)
	}
	if left, err := filepath.Glob(filepath.Join(p.store, "in-use/*")); err != nil || len(left) > 10 {
		t.Errorf("left in in-use are %d files, %v", len(left), err)
	}
	free()
	p.compare("after the prune")
	p.judge()
}
