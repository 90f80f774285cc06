package apply_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"snapdiff/apply"
	"snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
	"snapdiff/snapshot"
)

// bringAgain is rig.bring as the command does it: what earlier runs could not copy is compared again. full: with the
// mirror for base.
func (r *rig) bringAgain(m snapshot.Mark, full bool, opts apply.Options) *apply.Result {
	r.t.Helper()
	s, err := apply.Open(r.store)
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	next := open(r.t, m.Path)
	defer next.Close()
	keys := btrfsfeed.Keys(next)
	if len(r.taken) == 0 {
		return r.done(m)(s.FirstCopy(ctx, apply.Copy{Next: next, Keys: keys, Mark: m, Exclude: diff.MustExclude("/.snapdiff")}, opts))
	}
	if full {
		set, rekey, err := diff.Full(ctx, s.Mirror(), next, keys, diff.FullOptions{Exclude: diff.MustExclude("/.snapdiff")})
		if err != nil {
			r.t.Fatal(err)
		}
		return r.done(m)(s.Apply(ctx, apply.Run{Changes: set, Rekey: rekey, Base: s.Mirror(), Next: next, Mark: m, How: "full", Reason: "test"}, opts))
	}
	base := open(r.t, r.last.Path)
	defer base.Close()
	pending, err := s.Pending()
	if err != nil {
		r.t.Fatal(err)
	}
	var again []diff.Key
	for _, p := range pending {
		if p.Key.Gen == 0 {
			if p.Key, err = keys(p.Path, p.Key.Ino); err != nil {
				continue // gone from the source
			}
		}
		again = append(again, p.Key)
	}
	set, err := btrfsfeed.Diff(ctx, base, next, r.last.Trans, diff.Options{Exclude: diff.MustExclude("/.snapdiff"), Again: again})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.done(m)(s.Apply(ctx, apply.Run{Changes: set, Base: base, Next: next, Mark: m, How: "native"}, opts))
}

func (r *rig) done(m snapshot.Mark) func(*apply.Result, error) *apply.Result {
	return func(res *apply.Result, err error) *apply.Result {
		r.t.Helper()
		if err != nil {
			r.t.Fatal(err)
		}
		r.taken, r.last = append(r.taken, m), m
		return res
	}
}

// day runs a script in the source and brings a snapshot of it into the mirror; that many files may be lacking.
func (r *rig) day(script string, full bool, lacking int) *apply.Result {
	r.t.Helper()
	sh(r.t, r.source, script)
	res := r.bringAgain(r.snapshot(), full, apply.Options{})
	if len(res.Incomplete) != lacking {
		r.t.Fatalf("after %q: incomplete %v, want %d", script, res.Incomplete, lacking)
	}
	r.checkCatalog()
	if r.t.Failed() {
		r.t.Fatalf("after %q", script)
	}
	return res
}

func (r *rig) checkCatalog() {
	r.t.Helper()
	s, err := apply.Open(r.store)
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	wrong, err := s.CheckCatalog()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, w := range wrong {
		r.t.Errorf("catalog: %s", w)
	}
}

func (r *rig) inMirror(name string) bool {
	_, err := os.Lstat(filepath.Join(r.store, "tree", name))
	return err == nil
}

// An attribute of 10,000 bytes fits into btrfs and not into ext4.
const tooBig = `setfattr -n user.big -v $(printf 'x%.0s' $(seq 10000)) `

func newExt4Rig(t *testing.T) *rig {
	applytest.NeedRoot(t)
	return newRig(t, applytest.Subvolume(t, filepath.Join(applytest.Mount(t, applytest.Btrfs), "src")), applytest.Ext4)
}

// restoredHas tells whether a restore point shows a name.
func (r *rig) restoredHas(run int64, name string) bool {
	r.t.Helper()
	v, err := apply.OpenView(r.store, "", run)
	if err != nil {
		r.t.Fatal(err)
	}
	defer v.Close()
	to := filepath.Join(r.t.TempDir(), "restored")
	if _, err := v.Restore(context.Background(), "", to); err != nil {
		r.t.Fatalf("restoring r%d: %v", run, err)
	}
	_, err = os.Lstat(filepath.Join(to, name))
	return err == nil
}

// What a first copy lacks is tried again, moved, linked and at last copied; until then every run says so.
func TestWhatAFirstCopyLacks(t *testing.T) {
	r := newExt4Rig(t)
	r.day(`mkdir d; echo bad > d/bad; `+tooBig+`d/bad; echo gone > gone; `+tooBig+`gone; echo good > d/good`, false, 2)
	r.day(`echo other > other`, false, 2)
	r.day(`mv d e; rm gone`, false, 1)
	r.day(`ln e/bad e/bad2; mv e/bad moved`, false, 1)
	r.day(`setfattr -x user.big moved`, false, 0)
	r.judge()
	for run, name := range map[int64]string{1: "d/bad", 4: "moved"} {
		if r.restoredHas(run, name) {
			t.Errorf("r%d shows %s, which its mirror did not have", run, name)
		}
	}
	if !r.restoredHas(5, "moved") {
		t.Error("r5 does not show what it copied")
	}
	if reason := r.needsFull(); reason != "" {
		t.Error(reason)
	}
}

// A directory with an attribute that the mirror cannot hold has all others there, whichever run makes it: with the mode 0700 that it is made with
// nobody whom it belongs to could use a copy of it.
func TestDirectoryWithoutOneAttribute(t *testing.T) {
	r := newExt4Rig(t)
	const attributes = `setfattr -n user.a -v first $d; setfattr -n user.z -v last $d; ` + tooBig + `$d; setfacl -m u:7:r $d; chown 7:8 $d; chmod 2751 $d; touch -d 2001-02-03T04:05:06.789 $d`
	r.day(`mkdir first; echo f > first/f; d=first; `+attributes, false, 1)
	r.day(`mkdir later; echo f > later/f; d=later; `+attributes, false, 2)
	r.day(`mkdir full; echo f > full/f; d=full; `+attributes, true, 3)
	const look = `for d in first later full; do stat -c '%n %a %u:%g %y' $d; getfacl -pc $d; getfattr -d $d | grep -v user.big; done`
	shows := func(top string) string {
		cmd := exec.Command("bash", "-euc", look)
		cmd.Dir = top
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	want := shows(r.last.Path)
	if got := shows(filepath.Join(r.store, "tree")); got != want {
		t.Errorf("the mirror has\n%s\nwant\n%s", got, want)
	}
	r.day(`setfattr -x user.big first; setfattr -x user.big later; setfattr -x user.big full`, false, 0)
	r.judge()
}

// A file that becomes bad keeps its old version, wherever it is moved, until it can be copied.
func TestOldVersionIsKept(t *testing.T) {
	r := newExt4Rig(t)
	r.day(`mkdir d; echo old > d/f; ln d/f d/g`, false, 0)
	r.day(`echo new > d/f; `+tooBig+`d/f; echo young > young; `+tooBig+`young`, false, 2)
	old, err := os.ReadFile(filepath.Join(r.store, "tree/d/f"))
	if err != nil || string(old) != "old\n" {
		t.Errorf("the old version is %q, %v", old, err)
	}
	r.day(`mv d e; mv e/f f; echo unrelated > x`, false, 2)
	if !r.inMirror("f") || r.inMirror("young") {
		t.Error("the old version did not move along, or a new file came that cannot be held")
	}
	r.day(`setfattr -x user.big f; setfattr -x user.big young`, false, 0)
	r.judge()
	if r.restoredHas(2, "young") || !r.restoredHas(1, "d/f") {
		t.Error("earlier restore points are not what they were")
	}
	if reason := r.needsFull(); reason != "" {
		t.Error(reason)
	}
}

// What somebody put into the mirror, or took out of it, is kept, said, and stops nothing.
func TestForeignChangesInTheMirror(t *testing.T) {
	r := newExt4Rig(t)
	r.day(`mkdir gone dir; echo a > gone/a; echo b > dir/b; echo c > c`, false, 0)
	sh(t, filepath.Join(r.store, "tree"), `echo theirs > gone/theirs; mkdir newdir; echo theirs > newdir/x; echo theirs > newfile`)
	res := r.day(`rm -r gone; mkdir newdir; echo ours > newdir/y; echo ours > newfile; chmod 600 c`, false, 0)
	if len(res.Warnings) != 3 {
		t.Errorf("warnings: %q", res.Warnings)
	}
	r.judge()
	out, _ := filepath.Glob(filepath.Join(r.store, "history/r2/foreign-*"))
	if len(out) != 3 {
		t.Errorf("put aside: %s", strings.Join(out, ", "))
	}
}

// A full comparison mends a mirror that others changed, and the next native run goes on from it.
func TestFullComparisonMends(t *testing.T) {
	r := newExt4Rig(t)
	r.day(`mkdir -p gone/sub dir keep; echo a > gone/sub/a; echo b > dir/b; echo c > c; ln c keep/c2`, false, 0)
	r.day(`echo c2 >> c; mv dir dir2`, false, 0)
	sh(t, filepath.Join(r.store, "tree"), `rm -r gone; mkdir -p their/own; echo x > their/own/x; rm c; echo changed > dir2/b; mv keep kept`)
	r.day(`echo new > new`, true, 0)
	r.judge()
	r.day(`mv gone/sub up; mv keep keep3; rm -r dir2; echo c3 >> c`, false, 0)
	r.judge()
}
