package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot"
)

// randomTree makes a tree of few names and many sorts of inodes.
func randomTree(t *testing.T, rng *rand.Rand, top string, changes int) {
	t.Helper()
	name := func() string {
		path := string("abcde"[rng.IntN(5)])
		for range rng.IntN(3) {
			path += "/" + string("abcde"[rng.IntN(5)])
		}
		return path
	}
	for n := range changes {
		a, b := name(), name()
		c := []applytest.Change{
			applytest.Mkdir(a), applytest.Mkdir(a), applytest.Create(a, rng.Int64N(300_000), n), applytest.Create(a, 100, n),
			applytest.Write(a, rng.Int64N(300_000), 1+rng.Int64N(3000), n), applytest.Truncate(a, rng.Int64N(500_000)),
			applytest.Symlink(b, a), applytest.Link(a, b), applytest.Link(a, b), applytest.Rename(a, b), applytest.Remove(a),
			applytest.Chmod(a, uint32(rng.IntN(0o10000))), applytest.Chown(a, rng.IntN(9), rng.IntN(9)),
			applytest.SetXattr(a, "user.x", fmt.Sprint(n)), applytest.ACL(a, 7, 6), applytest.DefaultACL(a, 8, 5),
			applytest.Mknod(a, 0o20600, uint32(rng.IntN(2)), 3), applytest.Fifo(a), applytest.Utimes(a, int64(n), 5),
		}[rng.IntN(19)]
		if err := c.Apply(top); err != nil && !applytest.Ignorable(err) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.ESPIPE) {
			t.Fatal(err)
		}
	}
}

// compareAndApply makes the mirror equal to next by a full comparison, cut off now and then.
func compareAndApply(t *testing.T, rng *rand.Rand, s *Store, next string, cuts int) {
	t.Helper()
	to := openRoot(t, next)
	changes, rekey, err := diff.Full(context.Background(), s.Mirror(), to, inoKeys, diff.FullOptions{Exclude: diff.MustExclude("/.snapdiff")})
	check(t, err)
	mark := snapshot.Mark{Kind: "btrfs", Source: "source", ID: next, Taken: time.Unix(1_700_000_000, 0).UTC()}
	cutter := func() Options {
		left := rng.IntN(60)
		return Options{Step: func(string) error {
			if left--; left < 0 && cuts > 0 {
				return errKill
			}
			return nil
		}}
	}
	_, err = s.Apply(context.Background(), Run{Changes: changes, Rekey: rekey, Base: s.Mirror(), Next: to, Mark: mark, How: "full"}, cutter())
	for ; errors.Is(err, errKill); cuts-- {
		_, open, e := s.Last()
		check(t, e)
		_, err = s.Resume(context.Background(), *open, nil, to, cutter())
	}
	check(t, err)
	applytest.Judge(t, next, filepath.Join(s.Path(), "tree"))
	judgeNodes(t, s.conn, filepath.Join(s.Path(), "tree"))
	judgeFull(t, next, filepath.Join(s.Path(), "tree"))
}

// Any tree becomes any other by a full comparison, and what it did before stays a sound base for the next.
func TestFullComparisonApplied(t *testing.T) {
	seed := applytest.Seed(t)
	for _, kind := range applytest.MirrorKinds {
		t.Run(string(kind), func(t *testing.T) {
			sources, stores := applytest.Mount(t, applytest.Btrfs), applytest.Mount(t, kind)
			for round := range uint64(4) {
				rng := rand.New(rand.NewPCG(seed, round))
				first := filepath.Join(sources, fmt.Sprint(round))
				check(t, os.Mkdir(first, 0o755))
				randomTree(t, rng, first, 80)
				s := newCopyStore(t, filepath.Join(stores, fmt.Sprint(round)))
				defer s.Close()
				_, err := s.FirstCopy(context.Background(), copyOf(t, first), Options{})
				check(t, err)
				for n := range 3 {
					next := fmt.Sprintf("%s-%d", first, n)
					check(t, os.Mkdir(next, 0o755))
					if n < 2 { // the last has nothing in common with the others
						shell(t, sources, "cp -a --reflink=always "+first+"/. "+next)
					}
					randomTree(t, rng, next, 60)
					compareAndApply(t, rng, s, next, 2*n)
					first = next
				}
			}
		})
	}
}
