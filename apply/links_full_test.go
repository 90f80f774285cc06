package apply_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/apply/applytest"
)

// crowd is an inode of ext4 with as many names outside of any store as it can have with two more.
type crowd struct{ dir string }

func newCrowd(t *testing.T, dir string) crowd {
	t.Helper()
	c := crowd{dir}
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.WriteFile(c.name(0), nil, 0o600))
	for n := range 64_997 {
		must(t, os.Link(c.name(0), c.name(n+1)))
	}
	return c
}

func (c crowd) name(n int) string { return filepath.Join(c.dir, fmt.Sprint(n)) }

// join makes the inode that of a file with the names d/f and e/f in a mirror.
func (c crowd) join(t *testing.T, tree string) {
	t.Helper()
	sh(t, tree, fmt.Sprintf(`for i in d e; do touch -r $i ../$i; done
		cat d/f > %[1]s; chmod --reference=d/f %[1]s; touch -r d/f %[1]s; ln -f %[1]s d/f; ln -f %[1]s e/f
		for i in d e; do touch -r ../$i $i; rm ../$i; done`, c.name(0)))
	if err := os.Link(c.name(0), filepath.Join(tree, "one more")); !errors.Is(err, unix.EMLINK) {
		t.Fatalf("the file can have more names: %v", err)
	}
}

// withoutCounts is tree without the numbers of links, which count names outside too.
func withoutCounts(t *testing.T, top string) string {
	t.Helper()
	return regexp.MustCompile(` f [0-9]+ `).ReplaceAllString(tree(t, top), " f ")
}

// TestNoMoreLinks stops runs before any step when a file that they move or replace has as many names as ext4 allows, one of them in stage or
// history. They can be finished or given up, and a lost catalog made anew, as ever; restore points are what they were all the time.
func TestNoMoreLinks(t *testing.T) {
	applytest.NeedRoot(t)
	rnd := rand.New(rand.NewPCG(applytest.Seed(t), 21))
	every, modes := 6, []string{""}
	if applytest.Soak() {
		every, modes = 1, []string{"resume", "abandon", "rebuild"}
	}
	sources, mirrors := applytest.Mount(t, applytest.Btrfs), applytest.Mount(t, applytest.Ext4)
	c := newCrowd(t, filepath.Join(mirrors, "names"))
	apply.SetSmallPlan(t, 0)
	for number, script := range []string{
		`echo more >> d/f`,
		`echo more >> d/f; mv d/f d/g`,
		`mv d/f d/g`,
		`mv d/f d/g; mv e/f e/g`,
		`mv d/f d/g; mv e d/e`,
	} {
		for _, mode := range modes {
			for i := rnd.IntN(every) + 1; ; i += every {
				how := mode
				if how == "" {
					how = []string{"resume", "abandon", "rebuild"}[rnd.IntN(3)]
				}
				name := fmt.Sprint(number, how, i)
				p := &pruneRig{&rig{t: t, source: applytest.Subvolume(t, filepath.Join(sources, name)), store: filepath.Join(mirrors, name)}, map[int64]string{}}
				done := p.noMoreLinks(c, script, how, i)
				if p.mustFit("%q cut off after %d steps, then %s", script, i, how); done {
					break
				}
			}
		}
	}
}

// noMoreLinks cuts off a run after so many steps. done: it has no more.
func (p *pruneRig) noMoreLinks(c crowd, script, mode string, steps int) (done bool) {
	p.t.Helper()
	defer os.RemoveAll(p.store)
	must(p.t, errors.Join(os.Mkdir(filepath.Join(p.source, ".snapdiff"), 0o700), apply.Init(p.store)))
	sh(p.t, p.source, `mkdir d e; echo first > d/f; ln d/f e/f`)
	p.interrupted = true
	p.day(`true`)
	mirror := filepath.Join(p.store, "tree")
	c.join(p.t, mirror)
	before := withoutCounts(p.t, mirror)
	sh(p.t, p.source, script)
	count := 0
	err := p.run(cutAfter(steps, &count))
	if err != nil && !errors.Is(err, errCut) {
		p.t.Fatalf("cut off after %d steps: %v", steps, err)
	}
	p.judgeRuns(map[int64]string{1: p.taken[0].Path})
	switch {
	case err == nil:
		p.judgeCrowd()
		return true
	case mode == "resume":
		if err := p.resume(apply.Options{}); err != nil {
			p.t.Fatalf("resumed after %d steps: %v", steps, err)
		}
	case mode == "abandon":
		for _, again := range []int{steps % 5, 5 + steps%3} {
			count = 0
			if err := p.abandon(cutAfter(again, &count)); err != nil && !errors.Is(err, errCut) {
				p.t.Fatalf("given up after %d steps: %v", steps, err)
			}
		}
		if err := p.abandon(apply.Options{}); err != nil {
			p.t.Fatalf("given up after %d steps: %v", steps, err)
		}
		if p.needsFull() != "" {
			if after := withoutCounts(p.t, mirror); after != before {
				p.t.Fatalf("given up after %d steps: the mirror has not the names and contents of its base:\nwant\n%s\ngot\n%s", steps, before, after)
			}
			p.fullCrowdedDay()
		}
	default:
		sh(p.t, p.store, `rm catalog.db*`)
		p.rebuild()
		p.fullCrowdedDay()
	}
	p.judgeCrowd()
	p.judgeRuns(map[int64]string{1: p.taken[0].Path, int64(len(p.taken)): p.last.Path})
	return false
}

// judgeCrowd is judge, but for the number of names that the inode has.
func (p *pruneRig) judgeCrowd() {
	p.t.Helper()
	same(p.t, p.last.Path, filepath.Join(p.store, "tree"))
	s, err := apply.Open(p.store)
	must(p.t, err)
	defer s.Close()
	wrong, err := s.CheckCatalog()
	must(p.t, err)
	for _, w := range wrong {
		if !regexp.MustCompile(`names, its inode 6[45]`).MatchString(w) {
			p.t.Errorf("catalog: %s", w)
		}
	}
	p.manifestsFit(s)
}

// fullCrowdedDay compares in full.
func (p *pruneRig) fullCrowdedDay() {
	p.t.Helper()
	p.bringAgain(p.snapshot(), true, apply.Options{})
	p.judgeCrowd()
}
