package apply_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
)

// fullDay is day with a full comparison, which has to follow a rebuild.
func (p *pruneRig) fullDay(links bool) {
	p.t.Helper()
	m := p.snapshot()
	s, err := apply.Open(p.store)
	if err != nil {
		p.t.Fatal(err)
	}
	next := open(p.t, m.Path)
	set, rekey, err := diff.Full(context.Background(), s.Mirror(), next, btrfsfeed.Keys(next), diff.FullOptions{Exclude: diff.MustExclude("/.snapdiff")})
	if err == nil {
		_, err = s.Apply(context.Background(), apply.Run{Changes: set, Rekey: rekey, Base: s.Mirror(), Next: next, Mark: m, How: "full", Reason: "rebuilt", Links: links}, apply.Options{})
	}
	if err := errors.Join(err, next.Close(), s.Close()); err != nil {
		p.t.Fatal(err)
	}
	p.taken, p.last = append(p.taken, m), m
	p.judge()
	p.want[int64(len(p.taken))] = p.portrait(int64(len(p.taken)))
}

// lose damages or removes the catalog and rebuilds it.
func (p *pruneRig) rebuild() *apply.Rebuilt {
	p.t.Helper()
	done, err := apply.Rebuild(context.Background(), p.store)
	if err != nil {
		p.t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(p.store, "catalog.db.damaged*"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return done
}

// TestRebuildRandomly loses the catalog again and again between random rounds and prunes, with and without the link index, and
// compares every restore point with what it was before.
func TestRebuildRandomly(t *testing.T) {
	seed := Seed(t)
	for _, links := range []bool{false, true} {
		t.Run(fmt.Sprintf("links=%v", links), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 11))
			p := newPruneRig(t, MirrorKinds[r.IntN(len(MirrorKinds))])
			rounds, each := 12, 60
			if Soak() {
				rounds, each = 200, 300
			}
			full := false
			for round := range rounds {
				for range each {
					_ = RandomChange(r).Apply(p.source)
				}
				if full || links && round == 1 {
					p.fullDay(links)
				} else {
					p.day("true")
				}
				full = false
				if r.IntN(2) == 0 {
					kept := p.kept()
					var runs []int64
					for _, run := range kept[:len(kept)-1] {
						if r.IntN(4) == 0 {
							runs = append(runs, run)
						}
					}
					p.drop(runs...)
				}
				if r.IntN(3) > 0 && round < rounds-1 {
					continue
				}
				full = true
				if r.IntN(2) == 0 { // in the middle of a run, too
					for range each {
						_ = RandomChange(r).Apply(p.source)
					}
					step, limit := 0, r.IntN(3*each)
					m := p.snapshot()
					err := p.bring(m, apply.Options{Step: func(string) error {
						if step++; step > limit {
							return errKilled
						}
						return nil
					}})
					switch {
					case err == nil:
						p.taken, p.last = append(p.taken, m), m
						p.want[int64(len(p.taken))] = p.portrait(int64(len(p.taken)))
					case errors.Is(err, errKilled):
						p.taken = append(p.taken, m) // its number is taken too
					default:
						t.Fatal(err)
					}
					p.compare("cut off")
				}
				done := p.rebuild()
				if kept := p.kept(); !slices.Equal(done.Points, kept) || done.Newest != kept[len(kept)-1] || len(done.LostPoints) > 0 {
					t.Fatalf("rebuilt %+v, kept are %v", done, kept)
				}
				p.compare(fmt.Sprintf("rebuilt after round %d", round))
				if t.Failed() {
					t.FailNow()
				}
			}
			p.fullDay(links)
			kept := p.kept()
			for _, run := range kept {
				p.judgeRun(run)
			}
			p.drop(kept[:len(kept)-1]...)
			p.nothingLeft()
		})
	}
}
