package apply_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
	"snapdiff/snapshot"
)

// TestCompareRestorePoints brings all scenarios and random rounds into a mirror and compares restore points, adjacent ones and
// distant ones, by the catalog alone. Judges: the filesystem's own diff of the two snapshots, a walk of both for what was
// deleted, and a copy of the older one that rsync and rm bring up to the newer one.
func TestCompareRestorePoints(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 2))
	rounds, each := 4, 400
	if Soak() {
		rounds, each = 100, 1000
	}
	k := newKeeper(t, MirrorKinds[r.IntN(len(MirrorKinds))])
	known := slices.DeleteFunc(slices.Clone(Scenarios), func(s Scenario) bool { return s.Name == "beyond PATH_MAX" }) // rsync cannot copy it
	Begin(t, k.source, known)
	marks := []snapshot.Mark{{}}
	step := func() { marks = append(marks, k.base) }
	k.run(never)
	step()
	Go(t, k.source, known)
	k.run(never)
	step()
	for range rounds {
		k.randomRound(r, each)
		step()
	}
	last := k.taken
	for _, p := range [][2]int{{1, 2}, {2, 3}, {3, 4}, {last - 1, last}, {1, last}, {2, last - 1}, {last, last}} {
		k.judgeComparison(marks, p[0], p[1], Soak() || p[0] == 1 && p[1] == last || p[0] == 2)
	}
}

// judgeComparison compares two restore points; copied: also brings a copy of the older one up to date.
func (k *keeper) judgeComparison(marks []snapshot.Mark, from, to int, copied bool) {
	k.Helper()
	k.Logf("r%d with r%d", from, to)
	c, err := apply.Compare(k.store, "", int64(from), int64(to))
	k.must(err)
	defer c.Close()
	got := said(k.TB, c.Changes)
	base, next := k.open(marks[from]), k.open(marks[to])
	defer base.Close()
	defer next.Close()
	set, err := btrfsfeed.Diff(context.Background(), base, next, marks[from].Trans, diff.Options{Exclude: []string{".snapdiff"}})
	k.must(err)
	want := said(k.TB, func(yield func(apply.Change) error) error { return apply.ChangesOf(set, yield) })
	for line, data := range got {
		if wantData, ok := want[line]; !ok || wantData && !data {
			k.Errorf("r%d with r%d: %s (data: %v) is said, the snapshots have it: %v (data: %v)", from, to, line, data, ok, wantData)
		}
	}
	for line := range want {
		if _, ok := got[line]; !ok {
			k.Errorf("r%d with r%d: %s is not said", from, to, line)
		}
	}
	k.judgeDeleted(c, marks[from].Path, marks[to].Path)
	if copied {
		k.judgeCopy(c, marks[from].Path, marks[to].Path)
	}
}

// said makes changes comparable, without what only a look at the bytes can tell: whether data that was written differs, and
// then whether the mtime does.
func said(t testing.TB, each func(func(apply.Change) error) error) map[string]bool {
	t.Helper()
	lines := map[string]bool{}
	err := each(func(c apply.Change) error {
		data := c.Why&apply.ReasonData != 0
		if data {
			c.Why &^= apply.ReasonMetadata
		}
		if c.Why&^(apply.ReasonData|apply.ReasonNames) == 0 && c.Kind == apply.Modified && c.Type == 0o40000 {
			return nil
		}
		lines[fmt.Sprintf("%c %q -> %q %o %b %d %d", c.Kind, c.OldPath, c.Path, c.Type, c.Why&^apply.ReasonData, c.OldSize, c.Size)] = data
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// judgeDeleted compares with a walk of both snapshots.
func (k *keeper) judgeDeleted(c *apply.Comparison, from, to string) {
	k.Helper()
	want := map[string]bool{}
	for path := range pathsIn(k.TB, from) {
		want[path] = true
	}
	for path := range pathsIn(k.TB, to) {
		delete(want, path)
	}
	met := map[string]bool{}
	k.must(c.Deleted(context.Background(), func(path string) error {
		if !want[path] || met[path] {
			k.Errorf("deleted: %q is too many (met: %v)", path, met[path])
		}
		if met[filepath.Dir(path)] {
			k.Errorf("deleted: %q comes after its directory", path)
		}
		met[path] = true
		return nil
	}))
	for path := range want {
		if !met[path] {
			k.Errorf("deleted: %q is missing", path)
		}
	}
}

// pathsIn are all paths of a tree.
func pathsIn(t testing.TB, top string) map[string]bool {
	t.Helper()
	out, err := exec.Command("find", top, "-mindepth", "1", "-path", top+"/.snapdiff", "-prune", "-o", "-printf", `%P\0`).Output()
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]bool{}
	for path := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		paths[path] = true
	}
	return paths
}

// judgeCopy brings a copy of the older snapshot up to date with rm and rsync, from lists, and judges it by the newer one.
func (k *keeper) judgeCopy(c *apply.Comparison, from, to string) {
	k.Helper()
	copied := filepath.Join(filepath.Dir(k.store), "copied")
	shell := func(in string, command string, args ...string) {
		k.Helper()
		cmd := exec.Command(command, args...)
		cmd.Dir, cmd.Stdin = copied, strings.NewReader(in)
		if out, err := cmd.CombinedOutput(); err != nil {
			k.Fatalf("%s %q: %v\n%s", command, args, err, out)
		}
	}
	k.must(os.Mkdir(copied, 0o700))
	defer os.RemoveAll(copied)
	shell("", "rsync", "-aHAX", "--filter=-x btrfs.*", "--filter=-x trusted.SGI_ACL_*", "--exclude=/.snapdiff", from+"/", ".")
	var gone, changed bytes.Buffer
	k.must(c.Deleted(context.Background(), func(path string) error { gone.WriteString(path + "\x00"); return nil }))
	nobody := func(int) {}
	met := map[string]bool{}
	k.must(c.Paths(context.Background(), nobody, func(path string) error {
		if met[path] {
			k.Errorf("%q is listed twice", path)
		}
		met[path] = true
		changed.WriteString("./" + path + "\x00")
		return nil
	}))
	shell(gone.String(), "xargs", "-0", "rm", "-rf", "--")
	shell(changed.String(), "rsync", "-aHAX", "--filter=-x btrfs.*", "--filter=-x trusted.SGI_ACL_*", "--ignore-times", "--modify-window=-1", "--force", "--from0", "--files-from=-", to+"/", ".")
	lines, err := Differences(to, copied)
	k.must(err)
	for _, line := range lines {
		if !strings.Contains(line, ": holes is") { // rsync fills or makes them as it likes
			k.Errorf("copied: %s", line)
		}
	}
}
