package apply_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

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

// mustFit ends a test in which something is wrong.
func (p *pruneRig) mustFit(format string, args ...any) {
	p.t.Helper()
	if p.t.Failed() {
		p.t.Fatalf(format, args...)
	}
}

// committed notes that the last run, which was cut off, became a restore point: all of it was done but the commit.
func (p *pruneRig) committed() {
	p.t.Helper()
	run := int64(len(p.taken))
	p.last = p.taken[run-1]
	p.judgeRun(run)
	p.want[run] = p.portrait(run)
}

// rows are all rows that a catalog has of the past, and where the nodes are that they speak of: a rebuilt one has the same.
func (p *pruneRig) rows() string {
	p.t.Helper()
	conn, err := sqlite.OpenConn(filepath.Join(p.store, "catalog.db"), sqlite.OpenReadOnly)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	var text strings.Builder
	const spoken = ` IN (SELECT dir FROM entries UNION SELECT node FROM entries UNION SELECT node FROM versions) `
	for _, sql := range []string{
		`SELECT 'run', id, state, how, date, reason, mark, base FROM runs ORDER BY id`,
		`SELECT 'entry', dir, quote(name), run, node FROM entries ORDER BY dir, name, run`,
		`SELECT 'version', node, run, mode, uid, gid, rdev, size, mtime_s, mtime_n, nlink, quote(xattrs), content FROM versions ORDER BY node, run`,
		`SELECT 'saved', node, run, off, len, object FROM saved ORDER BY node, run, off`,
		`SELECT 'node', id, parent, quote(name), type, alive, born FROM nodes WHERE id` + spoken + `ORDER BY id`,
		`SELECT 'name', dir, quote(name), node FROM names WHERE node` + spoken + `ORDER BY dir, name`,
	} {
		err := sqlitex.ExecuteTransient(conn, sql, &sqlitex.ExecOptions{ResultFunc: func(row *sqlite.Stmt) error {
			for i := range row.ColumnCount() {
				text.WriteString(row.ColumnText(i) + " ")
			}
			text.WriteString("\n")
			return nil
		}})
		if err != nil {
			p.t.Fatal(err)
		}
	}
	return text.String()
}

// rebuild loses the catalog and makes it anew.
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
				p.mustFit("round %d, a run", round)
				if r.IntN(2) == 0 {
					kept := p.kept()
					var runs []int64
					for _, run := range kept[:len(kept)-1] {
						if r.IntN(4) == 0 {
							runs = append(runs, run)
						}
					}
					p.drop(runs...)
					p.mustFit("round %d, dropped %v of %v", round, runs, kept)
				}
				if r.IntN(3) > 0 && round < rounds-1 {
					continue
				}
				full = true
				before, cut := p.rows(), false
				if r.IntN(2) == 0 { // in the middle of a run, too
					for range each {
						_ = RandomChange(r).Apply(p.source)
					}
					if cut = p.killed(r.IntN(3 * each)); !cut {
						before = p.rows()
					}
					p.compare("cut off")
				}
				done := p.rebuild()
				if cut && slices.Contains(done.Points, int64(len(p.taken))) {
					p.committed()
				}
				if after := p.rows(); !cut && after != before {
					t.Errorf("round %d: the rebuilt catalog has other rows: %s", round, firstDifference(before, after))
				}
				if kept := p.kept(); !slices.Equal(done.Points, kept) || done.Newest != kept[len(kept)-1] || len(done.LostPoints) > 0 {
					t.Fatalf("rebuilt %+v, kept are %v", done, kept)
				}
				p.compare(fmt.Sprintf("rebuilt after round %d", round))
				p.mustFit("round %d, rebuilt", round)
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

// killed begins a run and stops it after so many steps. false: it was done before.
func (p *pruneRig) killed(after int) bool {
	p.t.Helper()
	step, m := 0, p.snapshot()
	err := p.bring(m, apply.Options{Step: func(string) error {
		if step++; step > after {
			return errKilled
		}
		return nil
	}})
	p.taken = append(p.taken, m) // its number is taken, done or not
	switch {
	case err == nil:
		p.last = m
		p.want[int64(len(p.taken))] = p.portrait(int64(len(p.taken)))
	case !errors.Is(err, errKilled):
		p.t.Fatal(err)
	}
	return err != nil
}

// manyLinks is what comes before linksCut: files with several names that changed before.
const manyLinks = `
	mkdir -p l/m other; for f in data meta both moved; do echo $f > l/$f; ln l/$f l/m/$f; ln l/$f l/z-$f; ln l/$f a-$f; done
	echo quiet > other/quiet; chmod 700 other; touch -d 2003-03-03 other`

// linksCut changes files of which names come, go and stay.
const linksCut = `
	echo more >> l/data; ln l/data l/b-data; ln l/data other/data; rm l/z-data
	chmod 600 l/meta; chown 7:8 l/meta; ln l/meta l/b-meta
	echo more >> l/both; chmod 604 l/both; mv l/both l/both2; ln l/both2 b-both; rm a-both
	mv l/m l/n; mv l/moved l/n/moved2; mv a-moved l/moved; touch -d 2003-03-03 other; echo loud >> other/quiet`

// TestRebuildCutAtEveryStep stops a run before each of its steps in turn and loses the catalog. All restore points are what they were, and
// so they are when the next run has compared in full.
func TestRebuildCutAtEveryStep(t *testing.T) {
	NeedRoot(t)
	volume := Mount(t, Btrfs)
	every, first := 17, rand.New(rand.NewPCG(Seed(t), 12)).IntN(17)
	if Soak() {
		every, first = 1, 0
	}
	for i := first; ; i += every {
		apply.SetSmallPlan(t, i%2*1000)
		p := &pruneRig{newRig(t, Subvolume(t, filepath.Join(volume, fmt.Sprintf("src%d", i))), Ext4), map[int64]string{}}
		sh(t, p.source, strings.Replace(beginning, "seq 300", "seq 8", 1)+manyLinks)
		p.day(`true`)
		p.day(rounds[1].script + `echo older >> b; ln keep/k keep/k4; chmod 640 d/e/two; touch -d 2001-01-01 d swap1; echo older >> l/data; echo older >> l/both; chmod 640 l/meta`)
		sh(t, p.source, rounds[0].script+linksCut)
		cut := p.snapshot()
		steps := 0
		err := p.bring(cut, cutAfter(i, &steps))
		p.taken = append(p.taken, cut)
		if err == nil {
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		done := p.rebuild()
		if slices.Contains(done.Points, 3) {
			p.committed()
		}
		p.compare("rebuilt")
		p.fullDay(false)
		p.compare("compared in full")
		p.judgeRuns(map[int64]string{1: p.taken[0].Path, 2: p.taken[1].Path})
		if t.Failed() {
			t.Fatalf("cut after %d steps", i)
		}
	}
}

// Manifests may tell of a directory that is gone and of which no restore point has anything any more. Another one that has its name now is not
// taken for it.
func TestRebuildTellsDirectoriesApart(t *testing.T) {
	p := newPruneRig(t, Ext4)
	p.day(`echo 1 > f`)
	p.day(`echo 2 > f`)
	p.day(`mkdir n; mv f n/f`)
	p.drop(2) // the manifest of r2 says that f is in the first n now
	p.day(`mv n/f g; rmdir n; mkdir n; echo a > n/a`)
	p.day(`chmod 700 n`)
	p.day(`chmod 750 n; echo b > n/b; echo more >> n/a`)
	p.drop(3, 4)
	p.rebuild()
	p.compare("rebuilt")
	p.fullDay(false)
	p.compare("compared in full")
}
