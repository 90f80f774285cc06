package main

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapdiff/apply/applytest"
)

// sickBench is a job with three restore points.
func sickBench(t *testing.T) *jobBench {
	b := newJobBench(t, "keep = { last = 99 }")
	b.write("a/one", "a/two", "b/c/three")
	b.snapdiff(0, "init")
	b.silent("run")
	b.write("a/four")
	b.allRight(os.WriteFile(filepath.Join(b.source, "a/one"), []byte("another one"), 0o600))
	b.silent("run")
	b.allRight(os.Remove(filepath.Join(b.source, "a/two")))
	b.allRight(os.Rename(filepath.Join(b.source, "b/c"), filepath.Join(b.source, "d")))
	b.silent("run")
	return b
}

func (b *jobBench) allRight(errs ...error) {
	b.t.Helper()
	if err := errors.Join(errs...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *jobBench) catalog() string { return filepath.Join(b.store, "catalog.db") }

// restored gives all files of a restore point with their contents.
func (b *jobBench) restored(run string) string {
	b.t.Helper()
	to := filepath.Join(b.t.TempDir(), "to")
	b.snapdiff(0, "restore", run, ".", to)
	var all strings.Builder
	b.allRight(filepath.WalkDir(to, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var data []byte
			data, err = os.ReadFile(path)
			all.WriteString(strings.TrimPrefix(path, to) + "=" + string(data) + "\n")
		}
		return err
	}))
	return all.String()
}

// Each way to lose the catalog is said by every command with a status of its own, and doctor brings it back.
func TestDoctorRebuildsACatalog(t *testing.T) {
	for name, damage := range map[string]func(*jobBench){
		"removed":     func(b *jobBench) { b.allRight(os.Remove(b.catalog())) },
		"emptied":     func(b *jobBench) { b.allRight(os.Truncate(b.catalog(), 0)) },
		"cut short":   func(b *jobBench) { b.allRight(os.Truncate(b.catalog(), 8192)) },
		"overwritten": func(b *jobBench) { b.allRight(os.WriteFile(b.catalog(), []byte(strings.Repeat("no", 40000)), 0o600)) },
		"an old copy": func(b *jobBench) { b.allRight(os.WriteFile(b.catalog(), b.old, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			b := sickBench(t)
			want := map[string]string{}
			for _, run := range []string{"r1", "r2", "r3"} {
				want[run] = b.restored(run)
			}
			data, err := os.ReadFile(b.catalog())
			b.allRight(err)
			b.old = data
			b.write("a/five")
			b.silent("run")
			want["r4"] = b.restored("r4")
			if out := b.snapdiff(0, "doctor"); !strings.Contains(out, "sound") {
				t.Errorf("doctor says of a sound store:\n%s", out)
			}
			damage(b)
			for _, args := range [][]string{{"run"}, {"list"}, {"restore", "r1", ".", "/nowhere"}, {"mount", "r1"}, {"verify"}, {"prune"}, {"diff"}, {"log", "a/one"},
				{"find", "one"}, {"tar", "r1"}, {"erase", "--yes", "a/two"}, {"init"}} {
				out := b.snapdiff(9, args...)
				if !strings.Contains(out, "snapdiff doctor") || !strings.Contains(out, "the catalog is damaged") {
					t.Errorf("%q says:\n%s", args, out)
				}
			}
			if out := b.snapdiff(1, "check"); !strings.Contains(out, "snapdiff doctor") {
				t.Errorf("check says:\n%s", out)
			}
			b.refused(9, "--repair rebuilds it from the manifests with r1 to r4", "doctor")
			out := b.snapdiff(0, "doctor", "--repair")
			if !strings.Contains(out, "the catalog was rebuilt with r1 to r4") {
				t.Errorf("doctor --repair says:\n%s", out)
			}
			for run, was := range want {
				if got := b.restored(run); got != was {
					t.Errorf("%s was\n%s\nis\n%s", run, was, got)
				}
			}
			b.snapdiff(0, "doctor")
			b.write("a/six")
			b.snapdiff(0, "run")
			b.equal()
			if out := b.snapdiff(0, "list", "--json"); !strings.Contains(out, "was rebuilt") {
				t.Errorf("list does not say why the run compared in full:\n%s", out)
			}
			b.snapdiff(0, "doctor")
			b.silent("verify")
		})
	}
}

// TestNothingTellsOfThePast: where the catalog is lost and so is the newest manifest, or all, or history, no restore point can be shown any more. What is
// in the mirror stays, and history begins anew.
func TestNothingTellsOfThePast(t *testing.T) {
	for name, lost := range map[string]string{
		"the newest manifest is damaged": "echo >> $STORE/history/r3/manifest",
		"all manifests are lost":         "rm $STORE/history/*/manifest",
		"history is lost":                "rm -r $STORE/history",
	} {
		t.Run(name, func(t *testing.T) {
			b := sickBench(t)
			before := b.identities()
			b.sh("rm $STORE/catalog.db*; " + lost)
			if name == "history is lost" {
				b.refused(1, "snapdiff init --adopt", "run")
				b.snapdiff(0, "init", "--adopt")
			} else {
				b.refused(9, "snapdiff doctor", "run")
				if out := b.snapdiff(0, "doctor", "--repair"); !strings.Contains(out, "rebuilt with no restore points") {
					t.Errorf("doctor --repair says:\n%s", out)
				}
				b.snapdiff(0, "doctor")
			}
			b.write("a/five")
			b.snapdiff(0, "run")
			b.equal()
			after := b.identities()
			for path, was := range before {
				if is, ok := after[path]; path != "a" && (!ok || is.Ino != was.Ino || is.Ctim != was.Ctim) {
					t.Errorf("%s was made again", path)
				}
			}
			newest := b.lastRun().Run
			want := b.restored(newest)
			b.write("a/six")
			b.silent("run")
			if got := b.restored(newest); got != want {
				t.Errorf("%s was\n%s\nis\n%s", newest, want, got)
			}
			b.snapdiff(0, "doctor")
			b.silent("verify")
			b.checkCatalog()
		})
	}
}

// Bits that flip anywhere in the catalog never lead to a panic; what doctor says is wrong it mends, and then all restore points are
// what they were.
func TestDoctorAfterBitFlips(t *testing.T) {
	rng := rand.New(rand.NewPCG(applytest.Seed(t), 5))
	b := sickBench(t)
	want := map[string]string{}
	for _, run := range []string{"r1", "r2", "r3"} {
		want[run] = b.restored(run)
	}
	whole, err := os.ReadFile(b.catalog())
	b.allRight(err)
	rounds, found := 25, 0
	if applytest.Soak() {
		rounds = 500
	}
	for range rounds {
		data := append([]byte(nil), whole...)
		for range 1 + rng.IntN(40) {
			data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		}
		b.allRight(os.WriteFile(b.catalog(), data, 0o600))
		for _, args := range [][]string{{"list"}, {"status"}, {"log", "a/one"}, {"diff"}, {"find", "*"}} {
			b.any(args...)
		}
		status, out := b.any("doctor")
		if status == 0 {
			continue // it hit what nothing rests on
		}
		found++
		if format := binary.BigEndian.Uint32(data[60:]); format > 3 && strings.Contains(out, "newer snapdiff") {
			continue // a newer format and other tables: nobody can tell that from what a newer program wrote, and nothing is done to it
		}
		b.snapdiff(0, "doctor", "--repair")
		for run, was := range want {
			if got := b.restored(run); got != was {
				t.Fatalf("%s was\n%s\nis\n%s", run, was, got)
			}
		}
	}
	t.Logf("%d of %d damages were found", found, rounds)
}

// TestDoctorMendsAStore: what is wrong around the catalog is said, is mended when that is asked for, and then nothing is wrong any more.
func TestDoctorMendsAStore(t *testing.T) {
	at := func(b *jobBench, name string) string { return filepath.Join(b.store, name) }
	for name, c := range map[string]struct {
		damage func(*jobBench)
		says   string
	}{
		"open to others":     {func(b *jobBench) { b.allRight(os.Chmod(b.store, 0o755)) }, "open to others (mode 0755)"},
		"another's":          {func(b *jobBench) { b.allRight(os.Chown(b.store, 12345, 0)) }, "belongs to user 12345"},
		"a piece is missing": {func(b *jobBench) { b.allRight(os.Remove(at(b, "README"))) }, "README is missing"},
		"left in stage":      {func(b *jobBench) { b.allRight(os.WriteFile(at(b, "stage/o-1-1"), nil, 0o600)) }, "1 things are left in stage, and no run is unfinished (the first is o-1-1)"},
		"too much in history": {func(b *jobBench) { b.allRight(os.WriteFile(at(b, "history/r2/99999"), nil, 0o600)) },
			"history/r2 has 1 objects that no restore point needs (the first is 99999)"},
		"too much of what is saved": {func(b *jobBench) { b.allRight(os.WriteFile(at(b, "history/r2/99999.saved"), nil, 0o600)) },
			"history/r2 has 1 objects that no restore point needs (the first is 99999.saved)"},
	} {
		t.Run(name, func(t *testing.T) {
			b := sickBench(t)
			want := b.restored("r2")
			c.damage(b)
			b.refused(6, c.says, "doctor")
			if text := b.snapdiff(0, "doctor", "--repair"); !strings.Contains(text, c.says) {
				t.Errorf("doctor --repair says %s", text)
			}
			if text := b.snapdiff(0, "doctor"); strings.Contains(text, c.says) {
				t.Errorf("after the repair: %s", text)
			}
			if got := b.restored("r2"); got != want {
				t.Errorf("r2 is %s, want %s", got, want)
			}
			b.silent("run")
		})
	}
}

// TestDoctorTellsOfAHeldRun: that is no fault.
func TestDoctorTellsOfAHeldRun(t *testing.T) {
	b := sickBench(t)
	b.configure("max_deleted = 0")
	b.allRight(os.Remove(filepath.Join(b.source, "a/four")))
	b.refused(5, "held", "run")
	if text := b.snapdiff(0, "doctor"); !strings.Contains(text, "r4 is held; its snapshot is kept") {
		t.Errorf("doctor says %s", text)
	}
}
