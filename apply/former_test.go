package apply_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
)

// bringBack compares the mirror with the newest snapshot and brings it back to that.
func (r *rig) bringBack() {
	r.t.Helper()
	s, err := apply.Open(r.store)
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	next := open(r.t, r.last.Path)
	defer next.Close()
	set, _, err := diff.Full(context.Background(), s.Mirror(), next, btrfsfeed.Keys(next), diff.FullOptions{Exclude: diff.MustExclude("/.snapdiff")})
	if err != nil {
		r.t.Fatal(err)
	}
	done, err := s.Mend(context.Background(), set, next, nil, apply.Options{})
	if err != nil || len(done.Problems) > 0 {
		r.t.Fatalf("bringing back: %+v %v", done, err)
	}
	if reason, err := s.NeedsFull(); reason != "" || err != nil {
		r.t.Errorf("after bringing back: %q %v", reason, err)
	}
}

// moreAlterations are of contents, which the run then changes or removes.
var moreAlterations = []struct{ name, theirs, ours string }{
	{"changed file altered", `echo theirs > d/a`, `echo more >> d/a`},
	{"changed file altered, its time put back", `echo theirs > d/a; touch -r d/b d/a`, `echo more >> d/a`},
	{"deleted file altered", `echo theirs >> d/b`, `rm d/b`},
	{"deleted links altered", `echo theirs >> d/a`, `rm d/a d/e/l`},
	{"file moved, changed and altered", `echo theirs > d/a`, `mv d/a a; echo more >> a`},
	{"linked file replaced at one name", `rm d/a; echo theirs > d/a`, `echo more >> d/a`},
	{"linked file deleted, replaced at one name", `rm d/e/l; echo theirs > d/e/l`, `rm d/a d/e/l`},
	{"linked file deleted, gone", `rm d/a d/e/l`, `rm d/a d/e/l`},
	{"large file altered", `printf theirs | dd of=big bs=1 seek=100000 conv=notrunc status=none`, `printf ours | dd of=big bs=1 seek=5000 conv=notrunc status=none`},
	{"large file made longer", `echo theirs >> big`, `printf ours | dd of=big bs=1 seek=5000 conv=notrunc status=none; mv big d/big`},
	{"symlink altered", `ln -sfn theirs link`, `ln -sfn ours link`},
	{"symlink deleted and altered", `ln -sfn theirs link`, `rm link`},
}

const unalteredToo = unaltered + `; ln d/a d/e/l; ln -s to link; head -c 300000 /dev/urandom > big; touch -d 2001-02-03 d/a d/b; sleep 0.01`

// Whatever somebody did to the mirror before a run: every restore point is what its snapshot was, also when the run is cut off and
// finished later.
func TestThePastOfAlteredMirrors(t *testing.T) {
	NeedRoot(t)
	smallPatches(t)
	rng := rand.New(rand.NewPCG(Seed(t), 8))
	kinds := []Kind{Ext4, []Kind{XFS, Btrfs}[rng.IntN(2)]}
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			r := newRig(t, Subvolume(t, filepath.Join(Mount(t, Btrfs), "src")), kind)
			r.interrupted = true
			r.day(unalteredToo, false, 0)
			points := map[int64]string{}
			for i, a := range append(moreAlterations[:len(moreAlterations):len(moreAlterations)], alterations...) {
				if !Soak() && rng.IntN(3) == 0 {
					continue
				}
				r.day(`echo $RANDOM >> keep/k`, false, 0)
				points[int64(len(r.taken))] = r.last.Path
				sh(t, filepath.Join(r.store, "tree"), a.theirs)
				sh(t, r.source, a.ours)
				steps := 0
				err := r.run(cutAfter(rng.IntN(2)*rng.IntN(25)+1000*rng.IntN(2), &steps))
				for errors.Is(err, errCut) {
					steps = 0
					err = r.resume(cutAfter(rng.IntN(40), &steps))
				}
				if i < len(moreAlterations) && r.needsFull() == "" {
					t.Errorf("%s: the run has not seen it", a.name)
				}
				r.bringBack()
				r.judge()
				points[int64(len(r.taken))] = r.last.Path
				r.judgeRuns(points)
				if t.Failed() {
					t.Fatalf("%s: in r%d", a.name, len(r.taken))
				}
				clear(points)
				r.day(`rm -r *; `+unalteredToo, false, 0)
			}
		})
	}
}

// A file that is altered between the saving of its ranges and the patch is replaced: the mirror is right, and so is what was.
func TestAlteredBeforeThePatch(t *testing.T) {
	NeedRoot(t)
	smallPatches(t)
	r := newExt4Rig(t)
	r.interrupted = true
	r.day(`head -c 300000 /dev/urandom > big; head -c 300000 /dev/urandom > other; ln other link`, false, 0)
	for i, theirs := range []string{`printf theirs | dd of=big bs=1 seek=100000 conv=notrunc status=none; echo more >> link`, `rm big other; echo theirs > big`,
		`cp -p big x; mv x big; printf theirs | dd of=big bs=1 seek=200000 conv=notrunc status=none; ln link l2`} {
		sh(t, r.source, fmt.Sprintf(`for f in big other; do printf ours | dd of=$f bs=1 seek=%d conv=notrunc status=none; done`, 5000+i*10000))
		before, altered := r.last.Path, false
		err := r.run(apply.Options{Step: func(name string) error {
			if name == "patch" && !altered {
				altered = true
				sh(t, filepath.Join(r.store, "tree"), theirs)
			}
			return nil
		}})
		if !altered || r.needsFull() == "" {
			t.Fatalf("%d: altered %v, the run has not seen it: %v", i, altered, err)
		}
		r.bringBack()
		r.judge()
		n := int64(len(r.taken))
		r.judgeRuns(map[int64]string{n - 1: before, n: r.last.Path})
	}
}

// TestKeptFromBaseIsOnTheDisk takes the disk away when a copy out of the base has its name in history: it has its contents there too.
func TestKeptFromBaseIsOnTheDisk(t *testing.T) {
	r := newExt4Rig(t)
	r.day(`head -c 300000 /dev/urandom > f`, false, 0)
	sh(t, filepath.Join(r.store, "tree"), `echo altered >> f`)
	sh(t, r.source, `echo more >> f`)
	r.interrupted = true
	disk, kept := filepath.Dir(r.store), false
	err := r.run(apply.Options{Step: func(step string) error {
		if !kept || step == "keep from base" {
			kept = kept || step == "keep from base"
			return nil
		}
		other, err := os.Create(filepath.Join(disk, "other")) // with it the journal is written, as it is now and then
		if err = errors.Join(err, other.Sync(), other.Close()); err != nil {
			return err
		}
		Shutdown(t, disk)
		return errCut
	}})
	if !errors.Is(err, errCut) {
		t.Fatalf("it was not cut off: %v", err)
	}
	Remount(t, disk)
	must(t, r.resume(apply.Options{}))
	r.judge()
	r.judgePast()
}
