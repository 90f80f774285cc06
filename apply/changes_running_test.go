package apply_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
)

// TestReadingBesideARun compares restore points, looks for names and histories and writes archives between the steps of a run, and wants
// to hear what it heard before the run.
func TestReadingBesideARun(t *testing.T) {
	k := newKeeper(t, Ext4)
	few := Scenarios[:24]
	Begin(t, k.source, few)
	k.run(never)
	Go(t, k.source, few)
	k.run(never)
	want := k.answers()
	stopped, stop := context.WithCancel(context.Background())
	stop()
	if _, err := apply.Compare(stopped, k.store, "", 1, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("a stopped comparison: %v", err)
	}
	End(t, k.source, few[:12])
	Apply(t, k.source, Rename(few[12].Dir(), "moved"), Mkdir("new"), Rename(few[13].Dir(), "new/below"), Chmod(few[14].Dir(), 0o711))
	next := k.take()
	steps := 0
	look := func(name string) error {
		if steps++; steps%7 == 0 {
			if got := k.answers(); got != want {
				t.Errorf("before step %d (%s): %s", steps, name, firstOther(want, got))
			}
		}
		return nil
	}
	for most := 70; ; most = 1 << 30 {
		begun := steps
		_, err := k.attempt(next, func(name string) error {
			if steps-begun > most {
				return errKilled
			}
			return look(name)
		})
		if err == nil {
			break
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		if got := k.answers(); got != want {
			t.Errorf("after a cut: %s", firstOther(want, got))
		}
	}
	t.Logf("%d steps", steps)
	if steps < 100 {
		t.Errorf("the run had %d steps only", steps)
	}
}

// TestRestoreDuringARun restores a whole restore point again and again while a run goes on: what it gives is what the snapshot had.
func TestRestoreDuringARun(t *testing.T) {
	k := newKeeper(t, MirrorKinds[rand.New(rand.NewPCG(Seed(t), 11)).IntN(len(MirrorKinds))])
	few := Scenarios[:40]
	Begin(t, k.source, few)
	k.run(never)
	first := k.base
	Go(t, k.source, few)
	next, done := k.take(), make(chan error, 1)
	go func() {
		defer close(done) // also where it fails
		_, err := k.attempt(next, func(string) error { time.Sleep(time.Millisecond); return nil })
		done <- err
	}()
	restored, running := 0, true
	for ; running || restored == 0; restored++ {
		v, err := apply.OpenView(k.store, "", 1)
		k.must(err)
		to := filepath.Join(filepath.Dir(k.store), "restored")
		_, err = v.Restore(context.Background(), "", to)
		k.must(errors.Join(err, v.Close()))
		lines, err := Differences(first.Path, to)
		if k.must(err); len(lines) > 0 {
			t.Errorf("restore %d: %s", restored, strings.Join(lines, "\n"))
		}
		k.must(os.RemoveAll(to))
		select {
		case err := <-done:
			k.must(err)
			running = false
		default:
		}
	}
	t.Logf("%d restores", restored)
}

// answers are all that can be asked about the first two restore points.
func (k *keeper) answers() string {
	var b strings.Builder
	ctx := context.Background()
	list := func(path string) error { fmt.Fprintf(&b, "%q\n", path); return nil }
	c, err := apply.Compare(context.Background(), k.store, "", 1, 2)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	errs := []error{
		c.Changes(func(c apply.Change) error { fmt.Fprintf(&b, "%+v\n", c); return nil }),
		c.Paths(ctx, apply.PathsOptions{}, list), c.Deleted(ctx, list), c.Tar(ctx, &b, "", apply.TarOptions{}),
	}
	v, err := apply.OpenView(k.store, "", 2)
	if err != nil {
		return err.Error()
	}
	defer v.Close()
	errs = append(errs, v.Tar(ctx, &b, "", apply.TarOptions{}))
	for _, path := range []string{"rename/d/b", "swap-dirs/a/new", "links/d/b", "nothing/a"} {
		entries, err := apply.Log(k.store, "", path)
		if err != nil && !errors.Is(err, apply.ErrNowhere) {
			errs = append(errs, err)
		}
		fmt.Fprintf(&b, "%s: %+v\n", path, entries)
	}
	errs = append(errs, apply.Find(ctx, k.store, "", "*", apply.FindOptions{}, func(f apply.Found) error { fmt.Fprintf(&b, "%+v\n", f); return nil }))
	if err := errors.Join(errs...); err != nil {
		return err.Error()
	}
	return b.String()
}

func firstOther(want, got string) string {
	w, g := strings.SplitAfter(want, "\n"), strings.SplitAfter(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d of %d\nwant %.300q\n got %.300q", i, len(w), w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d: %.300q", len(g), len(w), got)
}

// What was erased is said by nobody, and all else is said as before.
func TestErasedIsNotSaid(t *testing.T) {
	k := newKeeper(t, Ext4)
	Apply(t, k.source, Mkdir("d"), Create("d/secret", 100, 1), Create("d/plain", 100, 2), Mkdir("d/sub"), Create("d/sub/secret", 5, 5), Create("two", 9, 3), Link("two", "d/two"))
	k.run(never)
	Apply(t, k.source, Rename("d", "e"), Remove("e/secret"), RemoveAll("e/sub"), Remove("e/two"), Append("e/plain", 5, 3))
	k.run(never)
	store, err := apply.Open(k.store)
	k.must(err)
	for _, path := range []string{"d/secret", "d/sub", "d/two"} {
		_, err := store.Erase(context.Background(), path, false, apply.Options{})
		k.must(err)
	}
	k.must(store.Close())
	answers := k.answers()
	if strings.Contains(answers, "secret") || strings.Contains(answers, "d/two") {
		t.Errorf("erased and said:\n%s", answers)
	}
	c, err := apply.Compare(context.Background(), k.store, "", 1, 2)
	k.must(err)
	defer c.Close()
	var got []string
	k.must(c.Changes(func(c apply.Change) error { got = append(got, string(c.Kind)+" "+c.Path); return nil }))
	k.must(c.Deleted(context.Background(), func(path string) error { got = append(got, "gone "+path); return nil }))
	if s := strings.Join(got, ", "); s != "M , R e, M e/plain, gone d/plain, gone d" {
		t.Errorf("said: %s", s)
	}
}
