package apply_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/snapshot"
)

// Runs in which no name both goes and comes and no directory goes or moves, which have no mark between Detach and Attach.

const apartBefore = `
	mkdir -p d/e keep out wide; for i in 1 2 3 4 5; do echo $i > wide/$i; done; echo one > d/one; ln d/one keep/one; ln d/one out/one
	echo p > wide/p; ln wide/p wide/q; echo r > wide/r; ln wide/r out/r; echo lives > wide/lives; ln wide/lives out/lives; echo k > keep/k; echo l > keep/l
	ln -s target link; mkfifo fifo; echo a > a; echo b > b; head -c 300000 /dev/urandom > big; ln big out/big; setfattr -n user.x -v 1 keep/k`

const apartDay = `
	echo more >> d/one; mv keep/one out/moved-one; rm wide/1 link fifo; mv wide/2 out/two; mv wide/3 d/three; echo more >> d/three; mv wide/4 d/e/four; chmod 600 d/e/four
	mv wide/p out/p; mv wide/q out/q; rm wide/r out/r; rm wide/lives; ln keep/k out/k; echo more >> keep/k; ln keep/l out/l; rm keep/l
	mkdir -p new/dir; echo new > new/dir/n; mv a new/dir/a; ln b new/b; chmod 640 b; ln -s nowhere link2; mkfifo d/fifo2
	printf x | dd of=big bs=1 seek=150000 conv=notrunc status=none; rm out/big; touch -d '2001-01-01' wide/5 out`

// TestApartAtEveryStep stops such a run before its steps in turn. Then it is finished, given up, or given up with a lost catalog, each of
// which is stopped too and done again. Views are right all the time.
func TestApartAtEveryStep(t *testing.T) {
	seed := int(Seed(t) % 1000)
	stride, kinds := 7, []Kind{Ext4}
	if Soak() {
		stride, kinds = 1, MirrorKinds
	}
	source := Mount(t, Btrfs)
	for _, kind := range kinds {
		for i, ended := seed%stride, false; !ended; i += stride {
			fates := []int{fateResume, fateAbandon, fateRebuild}
			if !Soak() {
				fates = fates[i/stride%3:][:1]
			}
			for _, fate := range fates {
				p := &pruneRig{newRig(t, Subvolume(t, filepath.Join(source, fmt.Sprint(kind, i, fate))), kind), map[int64]string{}}
				ended = p.apart(i, fate)
				if t.Failed() {
					t.Fatalf("%s, cut after %d steps, fate %d", kind, i, fate)
				}
			}
		}
	}
}

// apart cuts one run and sees to it. true: the run ended before.
func (p *pruneRig) apart(after, fate int) (ended bool) {
	p.t.Helper()
	p.day(apartBefore)
	names := tree(p.t, filepath.Join(p.store, "tree"))
	sh(p.t, p.source, apartDay)
	switch m, err := p.cutRun(after); {
	case err == nil:
		p.last = m
		p.judge()
		return true
	case !errors.Is(err, errCut):
		p.t.Fatal(err)
	}
	p.unmarked(after)
	p.compare("cut off")
	p.meet(fate, func(n int) int { return after/2 + n*5 })
	if got := tree(p.t, filepath.Join(p.store, "tree")); fate == fateAbandon && p.needsFull() != "" && got != names {
		p.t.Errorf("given up, the mirror has not the names and contents of its base:\nwant\n%s\ngot\n%s", names, got)
	}
	p.settle(fate)
	return false
}

// cutRun begins a run and stops it.
func (p *pruneRig) cutRun(after int) (m snapshot.Mark, err error) {
	m = p.snapshot()
	steps := 0
	err = p.bring(m, cutAfter(after, &steps))
	p.taken = append(p.taken, m)
	return m, err
}

// unmarked makes sure that nothing of a run is marked, though it was at work in the mirror.
func (p *pruneRig) unmarked(after int) {
	p.t.Helper()
	s, err := apply.Open(p.store)
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	_, cut, err := s.Last()
	if err != nil || cut != nil && cut.State != apply.Recorded {
		p.t.Errorf("cut after %d steps: %+v, %v", after, cut, err)
	}
}

// What comes after a cut.
const (
	fateResume = iota
	fateAbandon
	fateRebuild
)

// meet sees to a run that was cut off; limit gives after how many steps the attempts are cut that come before the last one.
func (p *pruneRig) meet(fate int, limit func(n int) int) {
	p.t.Helper()
	do := map[int]func(apply.Options) error{fateResume: p.resume, fateAbandon: p.abandon}[fate]
	if do == nil {
		p.rebuild()
		return
	}
	for n := range 2 {
		steps := 0
		err := do(cutAfter(limit(n), &steps))
		if err != nil && !errors.Is(err, errCut) {
			p.t.Fatal(err)
		}
		p.compare("cut again")
	}
	if err := do(apply.Options{}); err != nil {
		p.t.Fatal(err)
	}
}

// settle makes the mirror equal to the source and judges all.
func (p *pruneRig) settle(fate int) {
	p.t.Helper()
	p.compare("settled")
	s, err := apply.Open(p.store)
	if err != nil {
		p.t.Fatal(err)
	}
	last, _, err := s.Last()
	s.Close()
	if err != nil {
		p.t.Fatal(err)
	}
	done := last.ID == int64(len(p.taken))
	if done {
		p.last = p.taken[len(p.taken)-1]
		p.want[last.ID] = p.portrait(last.ID)
		p.judgeRun(last.ID)
	}
	switch {
	case fate == fateResume && (!done || p.needsFull() != ""):
		p.t.Errorf("nobody touched the mirror, and the run ended as r%d, %q", last.ID, p.needsFull())
	case p.needsFull() != "" || fate == fateRebuild:
		p.fullDay(false)
	case !done: // nothing of it had been recorded
		p.day("true")
	}
	p.judge()
	p.compare("at the end")
	healthy(p.t, p.store, "at the end")
}

// TestApartRandomly makes random runs of the kind, cuts them at random steps and lets any fate follow.
func TestApartRandomly(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 12))
	rounds := 8
	if Soak() {
		rounds = 300
	}
	p := newPruneRig(t, MirrorKinds[r.IntN(len(MirrorKinds))])
	p.day(apartBefore)
	for range rounds {
		changeApart(t, r, p.source, 40)
		_, err := p.cutRun(r.IntN(200))
		fate := r.IntN(3)
		if errors.Is(err, errCut) {
			p.unmarked(0)
			p.compare("cut off")
			p.meet(fate, func(int) int { return r.IntN(150) })
		} else if err != nil {
			t.Fatal(err)
		} else {
			fate = fateResume
		}
		p.settle(fate)
		if kept := p.kept(); len(kept) > 3 {
			p.drop(kept[r.IntN(2)])
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// TestPowerCutApart is TestPowerCut of such a run.
func TestPowerCutApart(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 13))
	kinds, sample := MirrorKinds[r.IntN(len(MirrorKinds)):][:1], 5
	if Soak() {
		kinds, sample = MirrorKinds, 1000
	}
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			powerCuts(t, kind, r, sample, 0, func(source string) {
				sh(t, source, apartBefore)
				changeApart(t, r, source, 300)
			}, func(source string) { changeApart(t, r, source, 200) })
		})
	}
}

// changeApart does so many changes to files. Every name that comes is one that never was.
func changeApart(t *testing.T, r *rand.Rand, source string, count int) {
	t.Helper()
	var files, dirs []string
	err := filepath.WalkDir(source, func(path string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(source, path)
		switch {
		case err != nil:
			return err
		case rel == ".snapdiff":
			return fs.SkipDir
		case e.IsDir():
			dirs = append(dirs, rel)
		default:
			files = append(files, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var done []Change
	for range count {
		i := r.IntN(len(files))
		at, fresh := files[i], filepath.Join(dirs[r.IntN(len(dirs))], fmt.Sprintf("x%x", r.Uint64()))
		c := changeOfFile(r, at, fresh)
		if c.Apply(source) != nil {
			continue // symlinks and the like have no contents
		}
		done = append(done, c)
		switch st := (unix.Stat_t{}); {
		case unix.Lstat(filepath.Join(source, fresh), &st) != nil:
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			dirs = append(dirs, fresh)
		default:
			files = append(files, fresh)
		}
		if unix.Access(filepath.Join(source, at), unix.F_OK) == unix.ENOENT && len(files) > 9 {
			files = slices.Delete(files, i, i+1)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("changes:\n%s", Script(done))
		}
	})
}

// changeOfFile is any change of a file, or one that makes a fresh name.
func changeOfFile(r *rand.Rand, at, fresh string) Change {
	off, n, seed := r.Int64N(50_000), 1+r.Int64N(20_000), r.IntN(1000)
	switch r.IntN(14) {
	case 0:
		return Mkdir(fresh)
	case 1, 2:
		return Create(fresh, n, seed)
	case 3, 4:
		return Rename(at, fresh)
	case 5, 6:
		return Link(at, fresh)
	case 7:
		return Remove(at)
	case 8:
		return Symlink(at, fresh)
	case 9:
		return Append(at, n, seed)
	case 10:
		return KeepMtime(at, Write(at, off, n, seed))
	case 11:
		return Chmod(at, uint32(r.IntN(0o10000)))
	case 12:
		return SetXattr(at, "user.x", fmt.Sprint(seed))
	default:
		return Write(at, off, n, seed)
	}
}
