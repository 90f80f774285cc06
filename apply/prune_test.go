package apply_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
)

// pruneRig is an album from which restore points are dropped.
type pruneRig struct {
	*rig
	want map[int64]string // portraits of the restore points that are kept
}

func newPruneRig(t *testing.T, kind Kind) *pruneRig {
	t.Helper()
	return &pruneRig{newRig(t, Subvolume(t, filepath.Join(Mount(t, Btrfs), "src")), kind), map[int64]string{}}
}

// day changes the source and makes a restore point of it.
func (p *pruneRig) day(script string) {
	p.t.Helper()
	sh(p.t, p.source, script)
	if err := p.run(apply.Options{}); err != nil {
		p.t.Fatal(err)
	}
	p.judge()
	run := int64(len(p.taken))
	p.want[run] = p.portrait(run)
}

func (p *pruneRig) portrait(run int64) string {
	p.t.Helper()
	v, err := apply.OpenView(p.store, "", run)
	if err != nil {
		p.t.Fatal(err)
	}
	defer v.Close()
	text, err := portrait(v)
	if err != nil {
		p.t.Fatalf("r%d: %v", run, err)
	}
	return text
}

// prune drops restore points; step as in Options.
func (p *pruneRig) prune(step func(string) error, runs ...int64) (apply.Pruned, error) {
	p.t.Helper()
	s, err := apply.Open(p.store)
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	return s.Prune(context.Background(), runs, apply.Options{Step: step})
}

// drop drops restore points and compares all that are kept.
func (p *pruneRig) drop(runs ...int64) apply.Pruned {
	p.t.Helper()
	done, err := p.prune(nil, runs...)
	if err != nil {
		p.t.Fatalf("drop %v: %v", runs, err)
	}
	p.dropped(runs...)
	p.judge()
	return done
}

// dropped compares the kept ones and makes sure that the others are gone.
func (p *pruneRig) dropped(runs ...int64) {
	p.t.Helper()
	for _, run := range runs {
		delete(p.want, run)
		if _, err := apply.OpenView(p.store, "", run); !errors.Is(err, apply.ErrNoRestorePoint) {
			p.t.Errorf("r%d was dropped: %v", run, err)
		}
	}
	p.compare(fmt.Sprintf("dropped %v", runs))
	healthy(p.t, p.store, fmt.Sprintf("dropped %v", runs))
}

func (p *pruneRig) compare(when string) {
	p.t.Helper()
	for run, want := range p.want {
		if got := p.portrait(run); got != want {
			p.t.Errorf("%s: r%d differs: %s", when, run, firstDifference(want, got))
		}
	}
}

// healthy makes sure that doctor finds nothing wrong with a store.
func healthy(t *testing.T, store, when string) {
	t.Helper()
	found, err := apply.Examine(context.Background(), store, apply.DoctorOptions{})
	if err != nil {
		t.Errorf("%s: doctor: %v", when, err)
	}
	for _, trouble := range found {
		if !trouble.Note {
			t.Errorf("%s: doctor says: %s", when, trouble.Text)
		}
	}
}

// kept are the restore points, oldest first.
func (p *pruneRig) kept() (runs []int64) {
	for run := range p.want {
		runs = append(runs, run)
	}
	slices.Sort(runs)
	return runs
}

// nothingLeft makes sure that no history is left when only the newest restore point is.
func (p *pruneRig) nothingLeft() {
	p.t.Helper()
	left, err := filepath.Glob(filepath.Join(p.store, "history/*/*"))
	left = slices.DeleteFunc(left, func(path string) bool { return filepath.Base(path) == "manifest" })
	if err != nil || len(left) > 0 {
		p.t.Errorf("left in history: %v %v", left, err)
	}
	for _, table := range []string{"entries", "versions", "nodes WHERE NOT alive", "pruning", "trash"} {
		if n := sqlCount(p.t, p.store, table); n != 0 {
			p.t.Errorf("%d rows left in %s", n, table)
		}
	}
}

// Cases of what thinning must survive, by name: what happens on the days after the first, and what is there before.
var thinCases = []struct {
	name, before string
	days         []string
}{
	{"renamed directories", `mkdir -p d/e; echo f > d/e/f; echo g > d/g`,
		[]string{`mv d d2`, `echo more >> d2/e/f; mv d2/e e`, `mv d2 e/d3`, `mv e/d3 d; rm d/g`, `mv e x; mkdir e; echo other > e/f`}},
	{"moved, then changed, then deleted", `mkdir a b; echo 1 > a/f; echo 1 > a/g`,
		[]string{`mv a/f b/f`, `echo 2 >> b/f; mv a/g b/g`, `echo 3 >> b/f; chmod 600 b/g`, `rm b/f; echo 4 > b/g`, `rm b/g`, `echo again > b/f`}},
	{"links gained and lost", `mkdir a b; echo 1 > a/f`,
		[]string{`ln a/f b/l1; ln a/f b/l2`, `echo 2 >> a/f`, `rm b/l1`, `ln b/l2 a/l3; rm a/f`, `rm b/l2; echo 3 >> a/l3`, `rm a/l3`}},
	{"deleted subtrees with links outside", `mkdir -p a/b/c out; echo 1 > a/b/c/f; ln a/b/c/f out/f; echo 2 > a/b/g`,
		[]string{`rm -r a/b`, `echo more >> out/f`, `mkdir -p a/b/c; ln out/f a/b/c/f`, `rm -r a`, `rm out/f`}},
	{"name re-used", `echo file > n; mkdir dir; echo x > dir/x`,
		[]string{`rm n; echo other > n`, `rm n; mkdir n; echo in > n/in`, `rm -r n; mv dir n`, `mv n dir; ln -s dir n`, `rm n; echo back > n`}},
	{"type changes and back", `echo t > t; mkdir d; echo f > d/f`,
		[]string{`rm t; ln -s nowhere t; rm -r d; echo d > d`, `rm t; mkfifo t; rm d; mkdir d; echo f2 > d/f`, `rm t; echo t > t; rm -r d; ln -s t d`, `rm d; mkdir d; echo f > d/f`}},
	{"chmod, then replace, then thin", `echo 1 > f; chmod 644 f`,
		[]string{`chmod 600 f`, `chmod 640 f`, `echo 2 > f`, `chmod 644 f; setfattr -n user.a -v 1 f`, `echo 3 > f.new; mv f.new f`, `rm f`}},
	{"what comes and goes between kept ones", `mkdir d; echo k > k`,
		[]string{`echo t > d/tmp; mkdir x; echo y > x/y`, `echo u > d/tmp; echo z > x/y; echo w > x/w`, `rm d/tmp x/y; echo v > x/w`, `rm -r x`, `echo k2 > k`}},
}

// TestThin drops every restore point of each case in several orders.
func TestThin(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 3))
	p := newPruneRig(t, Ext4)
	p.day("true")
	for _, c := range thinCases {
		dir := strings.ReplaceAll(c.name, " ", "_")
		sh(t, p.source, "mkdir "+dir+"; cd "+dir+"; "+c.before)
	}
	p.day("true")
	for i := range 6 {
		for _, c := range thinCases {
			if i < len(c.days) {
				sh(t, p.source, "cd "+strings.ReplaceAll(c.name, " ", "_")+"; "+c.days[i])
			}
		}
		p.day("true")
	}
	for kept := p.kept(); len(kept) > 1; kept = p.kept() {
		n := 1 + r.IntN(2)
		var runs []int64
		for _, i := range r.Perm(len(kept) - 1)[:min(n, len(kept)-1)] {
			runs = append(runs, kept[i])
		}
		p.drop(runs...)
		if t.Failed() {
			t.FailNow()
		}
	}
	p.nothingLeft()
}

// TestThinRandomly drops restore points at random between random rounds, and kills some of the prunes at random steps: then
// all views are right at once, and the next prune finishes it.
func TestThinRandomly(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 4))
	p := newPruneRig(t, MirrorKinds[r.IntN(len(MirrorKinds))])
	rounds, each := 14, 60
	if Soak() {
		rounds, each = 300, 300
	}
	for range rounds {
		for range each {
			_ = RandomChange(r).Apply(p.source)
		}
		p.day("true")
		kept := p.kept()
		var runs []int64
		for _, run := range kept[:len(kept)-1] {
			if r.IntN(4) == 0 {
				runs = append(runs, run)
			}
		}
		steps := 0
		limit := r.IntN(2) * r.IntN(60)
		_, err := p.prune(func(string) error {
			if steps++; limit > 0 && steps > limit {
				return errKilled
			}
			return nil
		}, runs...)
		if err != nil && !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		if err == nil || steps > 1 {
			p.dropped(runs...)
			runs = nil
		}
		p.drop(runs...)
		if t.Failed() {
			t.FailNow()
		}
	}
	kept := p.kept()
	for _, run := range kept {
		p.judgeRun(run)
	}
	p.drop(kept[:len(kept)-1]...)
	p.nothingLeft()
}

// judgeRun restores a restore point and judges it by the snapshot that it was made of.
func (p *pruneRig) judgeRun(run int64) {
	p.t.Helper()
	v, err := apply.OpenView(p.store, "", run)
	if err != nil {
		p.t.Fatal(err)
	}
	defer v.Close()
	to := filepath.Join(p.t.TempDir(), "restored")
	if _, err := v.Restore(context.Background(), "", to); err != nil {
		p.t.Fatal(err)
	}
	same(p.t, p.taken[run-1].Path, to)
}

// What came after one kept restore point and went before the next leaves nothing behind.
func TestThinLeavesNothingOfWhatCameAndWent(t *testing.T) {
	p := newPruneRig(t, Ext4)
	p.day("mkdir old")
	p.day("echo 1 > old/f; mkdir new; echo 1 > new/f; ln new/f new/l; echo 1 > new/g")
	p.day("echo 2 > old/f; echo 2 > new/f; mv new/g old/g; chmod 600 new/l; ln old/f old/l")
	p.day("echo 3 > old/g; rm new/l; mv new/f old/h")
	p.day("rm -r new old/*")
	p.drop(2, 3, 4)
	if n := sqlCount(t, p.store, "versions WHERE content <> 0"); n > 0 {
		t.Errorf("%d contents are kept of what was there neither then nor now", n)
	}
	if n := sqlCount(t, p.store, "nodes WHERE NOT alive"); n > 0 {
		t.Errorf("%d nodes are kept", n)
	}
}

// TestPruneCutAtEveryStep kills a prune before each of its steps, looks at all that is kept, and goes on.
func TestPruneCutAtEveryStep(t *testing.T) {
	p := newPruneRig(t, Ext4)
	p.day(strings.Replace(beginning, "seq 300", "seq 4", 1))
	for _, round := range rounds[:6] {
		p.day(round.script)
	}
	for steps := 1; ; steps++ {
		left := steps
		_, err := p.prune(func(string) error {
			if left--; left < 0 {
				return errKilled
			}
			return nil
		}, []int64{2, 3, 5}[:3*min(1, max(0, 2-steps))]...)
		if steps == 1 {
			for _, run := range []int64{2, 3, 5} {
				delete(p.want, run)
			}
		}
		if err != nil && !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		p.compare(fmt.Sprintf("cut before step %d", steps))
		if err == nil {
			break
		}
	}
	p.judge()
	p.drop(1, 4, 6)
	p.nothingLeft()
}

// What somebody looks at is not dropped, and the newest never is.
func TestPruneKeepsWhatIsInUse(t *testing.T) {
	p := newPruneRig(t, Ext4)
	for i := range 4 {
		p.day(fmt.Sprintf("head -c 100000 /dev/urandom > f; echo %d > g", i))
	}
	v, err := apply.OpenView(p.store, "", 2)
	if err != nil {
		t.Fatal(err)
	}
	s, err := apply.Open(p.store)
	if err != nil {
		t.Fatal(err)
	}
	foretold, err := s.PruneDry(context.Background(), []int64{1, 2, 3})
	if err != nil || foretold.By[1] < 100000 || foretold.By[3] < 100000 {
		t.Errorf("%+v %v", foretold, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	done, err := p.prune(nil, 1, 2, 3)
	if err != nil || !slices.Equal(done.InUse, []int64{2}) || !slices.Equal(done.Dropped, []int64{1, 3}) || !reflect.DeepEqual(done, foretold) {
		t.Errorf("%+v %v, foretold %+v", done, err, foretold)
	}
	p.dropped(1, 3)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	p.drop(2)
	if _, err := p.prune(nil, 4); !errors.Is(err, apply.ErrNewest) {
		t.Errorf("the newest: %v", err)
	}
	p.nothingLeft()
}

// sqlCount counts rows of the catalog of a store.
func sqlCount(t *testing.T, store, table string) (n int64) {
	t.Helper()
	conn, err := sqlite.OpenConn(filepath.Join(store, "catalog.db"), sqlite.OpenReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = sqlitex.Execute(conn, "SELECT count(*) FROM "+table, &sqlitex.ExecOptions{ResultFunc: func(row *sqlite.Stmt) error {
		n = row.ColumnInt64(0)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
