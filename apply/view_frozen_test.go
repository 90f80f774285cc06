package apply_test

import (
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
)

// readOnlyBind is a mount of a directory that cannot be written, as a container has it, while the disk itself can.
func readOnlyBind(t *testing.T, dir string) string {
	t.Helper()
	view := t.TempDir()
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY} {
		if err := unix.Mount(dir, view, "", flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(view, 0); err != nil {
			t.Error(err)
		}
	})
	return view
}

// Who opened a restore point through a mount that cannot be written, when nobody wrote to the store, sees the same while runs begin and end
// later; and what he looks at is not dropped.
func TestViewThroughAReadOnlyMount(t *testing.T) {
	p := newPruneRig(t, Ext4)
	p.day(beginning)
	bind := readOnlyBind(t, p.store)
	v, err := apply.OpenView(bind, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	look := func(when string) {
		t.Helper()
		if got, err := portrait(v); err != nil || got != p.want[1] {
			t.Fatalf("%s: r1 differs (%v): %s", when, err, firstDifference(p.want[1], got))
		}
	}
	look("before a run")
	for _, round := range rounds[:5] {
		sh(t, p.source, round.script)
		steps := 0
		err := p.run(apply.Options{Step: func(name string) error {
			if steps++; steps%29 == 1 {
				look(round.name + ", before " + name)
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		look("after " + round.name)
	}
	done, err := p.prune(nil, 1, 3)
	if err != nil || !slices.Equal(done.InUse, []int64{1, 3}) || len(done.Dropped) > 0 {
		t.Errorf("%+v %v", done, err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	late, err := apply.OpenView(bind, "", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	same(t, p.taken[5].Path, filepath.Join(bind, "tree"))
}
