package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapdiff/cmd/snapdiff/job"
)

// damage alters the mirror behind snapdiff's back in every way that verify has to find.
func (b *jobBench) damage() {
	b.t.Helper()
	tree := func(path string) string { return filepath.Join(b.store, "tree", path) }
	rot := tree("a/rot")
	st, err := os.Stat(rot)
	for _, err := range []error{
		err,
		os.WriteFile(rot, []byte("a/roT"), 0o644),
		os.Chtimes(rot, st.ModTime(), st.ModTime()), // size and time tell nothing
		os.Remove(tree("a/missing")),
		os.WriteFile(tree("extra"), []byte("x"), 0o644),
		os.Chmod(tree("a/mode"), 0o600),
	} {
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

func TestVerifyFindsAndRepairs(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a/rot", "a/missing", "a/mode", "b/c/d")
	b.snapdiff(0, "init")
	b.refused(1, "no run has ever been finished", "verify")
	b.silent("run")
	b.silent("verify")
	if out := b.snapdiff(0, "status", "--json"); !strings.Contains(out, `"verified":"2`) {
		t.Errorf("status does not know that the mirror was verified:\n%s", out)
	}
	b.damage()
	out := b.snapdiff(6, "verify")
	for _, line := range []string{"M a/rot (data)\n", "+ a/missing\n", "- extra\n", "M a/mode (metadata)\n", "4 places"} {
		if !strings.Contains(out, line) {
			t.Errorf("verify does not say %q:\n%s", line, out)
		}
	}
	b.snapdiff(6, "verify", "--json")
	b.snapdiff(0, "verify", "--repair")
	b.equal()
	b.silent("verify")
	b.write("b/new")
	b.silent("run")
	b.equal()
}

// TestVerifyWithoutTheBase: when somebody has destroyed the snapshot that the mirror equals there is nothing to compare with until the next run. That is
// said, nothing counts as verified, and the checksums still find a rotten byte.
func TestVerifyWithoutTheBase(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a/one", "a/two")
	b.snapdiff(0, "init")
	b.silent("run")
	b.sh("btrfs -q subvolume delete $S/.snapdiff/*")
	for _, args := range [][]string{{"verify"}, {"verify", "--share", "1/2"}, {"verify", "--newest"}, {"verify", "--repair"}} {
		b.refused(1, "there is nothing to compare the mirror with", args...)
		b.refused(1, "snapdiff verify mail --checksums needs none", args...)
	}
	if out := b.snapdiff(0, "status", "--json"); strings.Contains(out, `"verified"`) {
		t.Errorf("what was compared with nothing is verified:\n%s", out)
	}
	b.silent("verify", "--checksums")
	b.rot("tree/a/one")
	b.refused(6, "M a/one (rotten)", "verify", "--checksums")
	b.wantFull("is gone")
	b.silent("verify")
}

// Each share finds what is wrong with its own files, and together they find everything.
func TestVerifyByShares(t *testing.T) {
	b := newJobBench(t, "")
	for i := range 26 {
		b.write(string(rune('a'+i)) + "/file")
	}
	b.snapdiff(0, "init")
	b.silent("run")
	for i := range 26 {
		path := filepath.Join(b.store, "tree", string(rune('a'+i)), "file")
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var found []string
	for _, share := range []string{"1/3", "2/3", "3/3"} {
		for line := range strings.Lines(b.snapdiff(6, "verify", "--share", share)) {
			if strings.HasPrefix(line, "M ") {
				found = append(found, line[2:3])
			}
		}
	}
	slices.Sort(found)
	if got := strings.Join(found, ""); got != "abcdefghijklmnopqrstuvwxyz" {
		t.Errorf("three shares found %q", got)
	}
	b.refused(2, "such as 1/30", "verify", "--share", "4/3")
	b.snapdiff(0, "verify", "--share", "1/3", "--repair")
	b.equal()
	b.silent("verify", "--share", "2/3")
	if out := b.snapdiff(0, "status", "--json"); strings.Contains(out, `"verified"`) {
		t.Errorf("two shares of three are taken for everything:\n%s", out)
	}
	b.silent("verify", "--share", "3/3")
	if out := b.snapdiff(0, "status", "--json"); !strings.Contains(out, `"verified"`) {
		t.Errorf("three shares of three are not taken for everything:\n%s", out)
	}
}

func TestNightlyShareGoesRound(t *testing.T) {
	seen := map[int]bool{}
	day := time.Date(2026, 3, 27, 1, 0, 0, 0, time.Local)
	for i := range 5 {
		var opts job.VerifyOptions
		if err := parseShare("1/5", &opts, true, day.AddDate(0, 0, i)); err != nil || opts.Of != 5 {
			t.Fatal(opts, err)
		}
		seen[opts.Part] = true
	}
	if len(seen) != 5 {
		t.Errorf("five nights read the shares %v", seen)
	}
}
