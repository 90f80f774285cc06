package apply_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
	"snapdiff/snapshot"
)

// used is how many bytes the files of a mirror and its history take up, without the catalog.
func used(t *testing.T, store string) int64 {
	t.Helper()
	unix.Sync()
	out, err := exec.Command("du", "-s", "--block-size=1", "-c", filepath.Join(store, "tree"), filepath.Join(store, "history")).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	n, err := strconv.ParseInt(strings.Fields(lines[len(lines)-1])[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The room that a run takes up is about what was told before (directories and manifests are not counted), whichever way the mirror's filesystem has large files changed. (du counts
// what clones share each time, so it can only be looked at where there are none.)
func TestRoomOnExt4(t *testing.T) {
	r := newExt4Rig(t)
	r.day(`head -c 3000000 /dev/urandom > medium; head -c 12000000 /dev/urandom > large; head -c 12000000 /dev/urandom > half; head -c 9000000 /dev/urandom > grows
		truncate -s 20M sparse; head -c 1000000 /dev/urandom >> sparse; echo small > small`, false, 0)
	for _, change := range []struct {
		script      string
		least, most int64 // of the estimate
	}{
		{`printf x | dd of=medium bs=1 seek=1000000 conv=notrunc status=none`, 3_000_000, 3_100_000},
		{`printf x | dd of=large bs=1 seek=1000000 conv=notrunc status=none`, 1, 100_000},
		{`head -c 7000000 /dev/urandom | dd of=half bs=1M conv=notrunc status=none`, 12_000_000, 12_100_000},
		{`head -c 5000000 /dev/urandom >> grows`, 5_000_000, 5_100_000},
		{`printf x >> sparse; chmod 600 large`, 1, 1_200_000},
		{`cp large new; echo more >> small; rm medium; truncate -s 9M large`, 12_000_000, 15_100_000},
	} {
		sh(t, r.source, change.script)
		m := r.snapshot()
		before := used(t, r.store)
		estimate := r.bringCounting(m)
		if took := used(t, r.store) - before; estimate < took-64<<10 || estimate < change.least || estimate > change.most {
			t.Errorf("%s: it took %d bytes, the estimate was %d", change.script, took, estimate)
		}
		r.judge()
	}
}

// bringCounting brings a snapshot into the mirror and gives the room that it was estimated to take.
func (r *rig) bringCounting(m snapshot.Mark) (bytes int64) {
	r.t.Helper()
	s, err := apply.Open(r.store)
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	base, next := open(r.t, r.last.Path), open(r.t, m.Path)
	defer base.Close()
	defer next.Close()
	set, err := btrfsfeed.Diff(context.Background(), base, next, r.last.Trans, diff.Options{Exclude: diff.MustExclude("/.snapdiff")})
	if err != nil {
		r.t.Fatal(err)
	}
	room, err := s.Room(next)
	if err != nil {
		r.t.Fatal(err)
	}
	set.Inodes.Ascend(func(in diff.Inode) bool {
		n, err := room.Of(&in)
		if err != nil {
			r.t.Error(err)
		}
		bytes += n
		return true
	})
	r.done(m)(s.Apply(context.Background(), apply.Run{Changes: set, Base: base, Next: next, Mark: m, How: "native"}, apply.Options{}))
	return bytes
}

// Where files can be cloned only what differs takes room.
func TestRoomWhereFilesAreCloned(t *testing.T) {
	r := newRig(t, Subvolume(t, filepath.Join(Mount(t, Btrfs), "src")), XFS)
	r.day(`head -c 3000000 /dev/urandom > medium`, false, 0)
	sh(t, r.source, `printf x | dd of=medium bs=1 seek=1000000 conv=notrunc status=none`)
	if estimate := r.bringCounting(r.snapshot()); estimate < 1 || estimate > 100_000 {
		t.Errorf("a clone is estimated to take %d bytes", estimate)
	}
}
