package apply_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/apply/fusefs"
)

// smallPatches has files patched in place that are as large as those of the tests.
func smallPatches(t testing.TB) { apply.SetMinPatched(t, 48<<10) }

// largeFiles are where randomLarge works.
var largeFiles = []string{"a/f", "a/g", "b/f", "b/g", "b/h"}

// randomLarge is a change of a few large files: mostly small ones of what is in them, and all that can become of them.
func randomLarge(r *rand.Rand) Change {
	a, b := largeFiles[r.IntN(len(largeFiles))], largeFiles[r.IntN(len(largeFiles))]
	off, n, seed := r.Int64N(300_000), 1+r.Int64N(9000), r.IntN(1000)
	block := off / 4096 * 4096
	switch r.IntN(30) {
	case 0, 1, 2, 3, 4, 5, 6, 7:
		return Write(a, off, n, seed)
	case 8, 9:
		return KeepMtime(a, Write(a, off, n, seed))
	case 10, 11, 12:
		return Punch(a, block, 4096*(1+n%4))
	case 13, 14:
		return Truncate(a, off)
	case 15, 16:
		return Append(a, n, seed)
	case 17:
		return ZeroRange(a, block, 8192)
	case 18:
		return PreallocKeep(a, block, 4096*8)
	case 19:
		return Collapse(a, block/4, 4096)
	case 20, 21, 22:
		return Rename(a, b)
	case 23:
		return Link(a, b)
	case 24:
		return Remove(a)
	case 25:
		return Exchange(a, b)
	case 26:
		return []Change{Rename("a", "c"), Rename("c", "a"), Mkdir("a"), Reflink(a, b)}[r.IntN(4)]
	case 27:
		return []Change{Chmod(a, uint32(r.IntN(0o10000))), SetXattr(a, "user.x", fmt.Sprint(seed)), Chown(a, seed, 1), MmapWrite(a, off, n, seed)}[r.IntN(4)]
	}
	return Create(a, 100_000+off, seed)
}

// TestPatchedRandomRounds lets all happen to large files that are patched in place: what changes in them, truncation and growth, holes,
// moves, links, replacing and deleting, many runs in a row that are then thinned in any order, with runs and prunes that are cut off.
// After each run and each prune every restore point is what it was.
func TestPatchedRandomRounds(t *testing.T) {
	smallPatches(t)
	r := rand.New(rand.NewPCG(Seed(t), 6))
	rounds := 24
	if Soak() {
		rounds = 400
	}
	p := newPruneRig(t, Ext4)
	p.day(`mkdir a b; for f in a/f a/g b/f b/h b/daily; do head -c 250000 /dev/urandom > $f; done`)
	p.interrupted = true
	patched := int64(0)
	for range rounds {
		p.randomLargeDay(r)
		patched += int64(sqlCount(t, p.store, fmt.Sprintf("versions WHERE content = 2 AND run = %d", len(p.taken))))
		if r.IntN(3) > 0 {
			p.compare("after a run")
			healthy(t, p.store, "after a run")
		}
		if r.IntN(3) == 0 {
			p.dropSome(r)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d files were patched", patched)
	if patched < int64(rounds) {
		t.Errorf("no more than %d files were patched in %d runs", patched, rounds)
	}
	kept := p.kept()
	for _, run := range kept {
		p.judgeHoles(run)
	}
	for len(kept) > 1 {
		i := r.IntN(len(kept) - 1)
		p.drop(kept[i])
		kept = slices.Delete(kept, i, i+1)
		p.judgeHoles(kept[r.IntN(len(kept))])
	}
	p.nothingLeft()
}

// randomLargeDay makes a restore point of random changes; half of the runs are cut off and finished, some of them given up.
func (p *pruneRig) randomLargeDay(r *rand.Rand) {
	p.t.Helper()
	var done []Change
	defer func() {
		if p.t.Failed() {
			p.t.Logf("the last changes:\n%s", Script(done))
		}
	}()
	for range 2 + r.IntN(12) {
		if c := randomLarge(r); c.Apply(p.source) == nil {
			done = append(done, c)
		}
	}
	daily := Write("b/daily", r.Int64N(240_000), 1+r.Int64N(9000), r.IntN(1000)) // something is patched whatever else happens
	if err := daily.Apply(p.source); err != nil {
		p.t.Fatal(err)
	}
	done = append(done, daily)
	before, steps := tree(p.t, filepath.Join(p.store, "tree")), 0
	err := p.run(cutAfter(r.IntN(2)*r.IntN(40)+1000*r.IntN(2), &steps))
	for errors.Is(err, errCut) {
		steps = 0
		p.compare("cut off")
		if r.IntN(4) == 0 {
			p.giveUp(r, before)
			return
		}
		err = p.resume(cutAfter(r.IntN(60), &steps))
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.judge()
	run := int64(len(p.taken))
	p.want[run] = p.portrait(run)
	p.judgeHoles(run)
}

// giveUp abandons a run that was cut off, makes sure that the mirror is again what it was, and makes another run, which compares
// in full.
func (p *pruneRig) giveUp(r *rand.Rand, before string) {
	p.t.Helper()
	err := errCut
	for errors.Is(err, errCut) {
		steps := 0
		err = p.abandon(cutAfter(3+r.IntN(60), &steps))
	}
	if err != nil {
		p.t.Fatal(err)
	}
	run := int64(len(p.taken))
	if p.needsFull() == "" { // only the commit was missing
		p.want[run] = p.portrait(run)
		return
	}
	if got := tree(p.t, filepath.Join(p.store, "tree")); got != before {
		p.t.Errorf("given up: the mirror has not the names and contents of its base:\nwant\n%s\ngot\n%s", before, got)
	}
	p.checkCatalog()
	p.compare("given up")
	p.rig.day(``, true, 0)
	p.judge()
	run = int64(len(p.taken))
	p.want[run] = p.portrait(run)
}

// dropSome drops some restore points, perhaps with a kill before it is done.
func (p *pruneRig) dropSome(r *rand.Rand) {
	p.t.Helper()
	kept := p.kept()
	var runs []int64
	for _, run := range kept[:len(kept)-1] {
		if r.IntN(3) == 0 {
			runs = append(runs, run)
		}
	}
	steps := 0
	_, err := p.prune(cutAfter(r.IntN(30), &steps).Step, runs...)
	if err != nil && !errors.Is(err, errCut) {
		p.t.Fatal(err)
	}
	if steps > 1 {
		p.dropped(runs...)
		runs = nil
	}
	p.drop(runs...)
}

// judgeHoles restores a restore point and judges it by its snapshot, holes and all.
func (p *pruneRig) judgeHoles(run int64) {
	p.t.Helper()
	v, err := apply.OpenView(p.store, "", run)
	if err != nil {
		p.t.Fatal(err)
	}
	defer v.Close()
	to := filepath.Join(filepath.Dir(p.store), "restored")
	if _, err := v.Restore(context.Background(), "", to); err != nil {
		p.t.Fatal(err)
	}
	lines, err := Differences(p.taken[run-1].Path, to)
	if err := errors.Join(err, os.RemoveAll(to)); err != nil {
		p.t.Fatal(err)
	}
	for _, line := range lines {
		if line != "" {
			p.t.Errorf("r%d restored: %s", run, line)
		}
	}
}

// reader has a file of a restore point open and knows what was in it.
type reader struct {
	*apply.Contents
	sum  [32]byte
	what string
}

func (r reader) check(t *testing.T, when string) {
	t.Helper()
	h := sha256.New()
	_, err := io.Copy(h, io.NewSectionReader(r, 0, r.Size()))
	if err != nil || [32]byte(h.Sum(nil)) != r.sum {
		t.Errorf("%s: %s, which was open, differs (%v)", when, r.what, err)
	}
	parts, err := r.Data()
	if err != nil {
		t.Errorf("%s: %s, which was open: %v", when, r.what, err)
	}
	data := make([]byte, r.Size()) // what is no hole is all that is not zero
	for _, p := range parts {
		if _, err := r.ReadAt(data[p.Off:p.Off+p.Len], p.Off); err != nil {
			t.Errorf("%s: %s: %v", when, r.what, err)
		}
	}
	if sha256.Sum256(data) != r.sum {
		t.Errorf("%s: %s has data where it says that holes are", when, r.what)
	}
}

// openAll opens the large files of a restore point.
func openAll(t *testing.T, v *apply.View, paths ...string) (list []reader) {
	t.Helper()
	for _, path := range paths {
		f, err := v.Lookup(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := v.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		data, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, reader{c, sha256.Sum256(data), fmt.Sprintf("%s of r%d", path, v.Run())})
	}
	return list
}

// TestPatchedCutAtEveryStep stops runs that patch files before each of their steps in turn. Before each step, after the cut, and when
// the run was finished or given up, all earlier restore points are what they were, also through files that were open all the time.
func TestPatchedCutAtEveryStep(t *testing.T) {
	smallPatches(t)
	a := &album{rig: newRig(t, Subvolume(t, filepath.Join(Mount(t, Btrfs), "src")), Ext4)}
	a.mustRun(`mkdir d e; head -c 400000 /dev/urandom > d/big; head -c 300000 /dev/urandom > d/two; ln d/two e/two; truncate -s 600000 sparse
		printf x | dd of=sparse bs=1 seek=250000 conv=notrunc status=none; head -c 200000 /dev/urandom > gone; head -c 250000 /dev/urandom > moves`)
	a.add()
	open := openAll(t, a.views[0], "d/big", "e/two", "sparse", "gone", "moves")
	mirror := filepath.Join(a.store, "tree")
	base := tree(t, mirror)
	a.interrupted = true
	for i := 1; ; i++ {
		apply.SetSmallPlan(t, i%2*1000)
		// Each day is the other way round than the day before, so that it has as many steps.
		script := `if [ -e d ]; then D=d M=moves; else D=x M=e/moved; fi
			for o in 3 40 90; do head -c 5000 /dev/urandom | dd of=$D/big bs=1k seek=$o conv=notrunc status=none; done
			printf yy | dd of=e/two bs=1 seek=100001 conv=notrunc status=none; truncate -s $((500000 + 100000 * (RANDOM % 2))) sparse
			fallocate -p -o 8192 -l 4096 $D/two; printf z | dd of=sparse bs=1 seek=$((RANDOM * 15)) conv=notrunc status=none
			printf m | dd of=$M bs=1 seek=70000 conv=notrunc status=none; printf n >> $M; echo $RANDOM > new
			if [ $D = d ]; then mv d x; mv moves e/moved; else mv x d; mv e/moved moves; fi`
		sh(t, a.source, script)
		steps, looks := 0, 0
		look := func(name string) error {
			if steps++; steps > i {
				return errCut
			}
			if looks++; looks > i-2 || looks%7 == i%7 {
				for _, r := range open {
					r.check(t, fmt.Sprintf("day %d, before step %d (%s)", i, steps, name))
				}
			}
			return nil
		}
		err := a.run(apply.Options{Step: look})
		if err != nil && !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		cut := err != nil
		a.compareOpen(open, fmt.Sprintf("day %d, cut before step %d", i, steps))
		a.views, a.want = a.views[:1], a.want[:1]
		switch {
		case cut && i%3 == 0:
			steps = 0
			if err := a.abandon(cutAfter(i, &steps)); err != nil && !errors.Is(err, errCut) {
				t.Fatal(err)
			}
			a.compareOpen(open, fmt.Sprintf("day %d, half given up", i))
			if err := a.abandon(apply.Options{}); err != nil {
				t.Fatal(err)
			}
			if a.needsFull() != "" {
				if got := tree(t, mirror); got != base {
					t.Errorf("day %d: given up before step %d, the mirror is not its base:\nwant\n%s\ngot\n%s", i, steps, base, got)
				}
				a.rig.day(``, true, 0)
			}
		case cut:
			steps = 0
			if err := a.resume(cutAfter(i/2, &steps)); err != nil && !errors.Is(err, errCut) {
				t.Fatal(err)
			}
			a.compareOpen(open, fmt.Sprintf("day %d, cut again", i))
			if err := a.resume(apply.Options{}); err != nil {
				t.Fatal(err)
			}
		}
		a.judge()
		a.compareOpen(open, fmt.Sprintf("after day %d", i))
		if i%5 == 0 {
			healthy(t, a.store, fmt.Sprintf("after day %d", i))
		}
		if t.Failed() {
			t.Fatalf("day %d, cut before step %d", i, steps)
		}
		base = tree(t, mirror)
		if !cut {
			t.Logf("a run has %d steps", steps)
			break
		}
	}
}

func (a *album) compareOpen(open []reader, when string) {
	a.t.Helper()
	a.compare(when)
	for _, r := range open {
		r.check(a.t, when)
	}
}

// A file that was open in a mounted restore point, and of which the kernel has read little, shows what it was after runs have patched
// it and prunes have handed on what they saved.
func TestPatchedUnderAMount(t *testing.T) {
	smallPatches(t)
	p := newPruneRig(t, Ext4)
	p.day(`head -c 2000000 /dev/urandom > f; ln f g`)
	v, err := apply.OpenView(p.store, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	dir := t.TempDir()
	server, err := fusefs.Mount(v, dir, fusefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Unmount()
	// Another process: to start programs while one has files open in a filesystem that it serves itself is asking for trouble.
	cmd := exec.Command("sh", "-ec", `exec 3< "$0/f"; dd bs=4096 count=1 <&3 2> /dev/null; read go; cat <&3`, dir)
	goOn, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	got := make([]byte, 4096)
	_, err = io.ReadFull(stdout, got)
	must(t, err)
	want, err := os.ReadFile(filepath.Join(p.taken[0].Path, "f"))
	if err != nil {
		t.Fatal(err)
	}
	ino := stat(t, filepath.Join(p.store, "tree/f")).Ino
	for i := range 4 {
		p.day(fmt.Sprintf(`for o in 50 %d 400; do head -c 3000 /dev/urandom | dd of=f bs=4k seek=$o conv=notrunc status=none; done; truncate -s %d f`, 100+i, 2000000-i%2*300000))
	}
	if now := stat(t, filepath.Join(p.store, "tree/f")).Ino; now != ino {
		t.Errorf("it was not patched in place: inode %d became %d", ino, now)
	}
	p.drop(2, 4)
	fmt.Fprintln(goOn, "go")
	rest, err := io.ReadAll(stdout)
	must(t, err)
	got = append(got, rest...)
	if err := cmd.Wait(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes differ from %d (%v)", len(got), len(want), err)
	}
	if st, other := stat(t, filepath.Join(dir, "f")), stat(t, filepath.Join(dir, "g")); st.Ino != other.Ino || st.Nlink != 2 || st.Size != int64(len(want)) {
		t.Errorf("%+v %+v", st, other)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
