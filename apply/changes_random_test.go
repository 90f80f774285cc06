package apply_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
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
	rounds, each := 3, 500
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
	for _, p := range [][2]int{{1, 2}, {2, 3}, {last - 1, last}, {1, last}, {2, last - 1}, {last, last}} {
		k.judgeComparison(marks, p[0], p[1], Soak() || p == [2]int{1, last} || p == [2]int{2, 3})
	}
	for _, run := range []int{1, 2, last} {
		k.judgeTar(run, marks[run].Path)
	}
	k.prune(3)
	for _, p := range [][2]int{{1, 2}, {2, 4}, {1, last}} {
		k.judgeComparison(marks, p[0], p[1], Soak())
	}
	var all []census
	for run := 1; run <= last; run++ {
		if run != 3 {
			all = append(all, k.census(run, marks[run]))
		}
	}
	k.judgeLog(all)
	k.judgeFind(all)
}

// prune drops restore points.
func (k *keeper) prune(runs ...int64) {
	k.Helper()
	store, err := apply.Open(k.store)
	k.must(err)
	defer store.Close()
	done, err := store.Prune(context.Background(), runs, apply.Options{})
	k.must(err)
	if len(done.Dropped) != len(runs) {
		k.Fatalf("dropped r%v, want r%v", done.Dropped, runs)
	}
}

// judgeComparison compares two restore points; copied: also brings a copy of the older one up to date.
func (k *keeper) judgeComparison(marks []snapshot.Mark, from, to int, copied bool) {
	k.Helper()
	k.Logf("r%d with r%d", from, to)
	c, err := apply.Compare(context.Background(), k.store, "", int64(from), int64(to))
	k.must(err)
	defer c.Close()
	got := said(k.TB, c.Changes)
	base, next := k.open(marks[from]), k.open(marks[to])
	defer base.Close()
	defer next.Close()
	set, err := btrfsfeed.Diff(context.Background(), base, next, marks[from].Trans, diff.Options{Exclude: diff.MustExclude("/.snapdiff")})
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

// copying is a copy of a snapshot in which programs are run.
type copying struct {
	*keeper
	dir string
}

// copyOf makes a copy; "" makes an empty one.
func (k *keeper) copyOf(snap string) copying {
	k.Helper()
	c := copying{k, filepath.Join(filepath.Dir(k.store), "copied")}
	k.must(os.Mkdir(c.dir, 0o700))
	if snap != "" {
		c.exec("", "rsync", "-aHAXS", "--modify-window=-1", "--filter=-x btrfs.*", "--filter=-x trusted.SGI_ACL_*", "--exclude=/.snapdiff", snap+"/", ".")
	}
	return c
}

func (c copying) exec(in string, command string, args ...string) {
	c.Helper()
	cmd := exec.Command(command, args...)
	cmd.Dir, cmd.Stdin = c.dir, strings.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.Fatalf("%s %q: %v\n%s", command, args, err, out)
	}
}

// extract pipes an archive into GNU tar. What archives cannot hold is given back.
func (c copying) extract(archive func(w io.Writer, o apply.TarOptions) error) (skipped map[string]bool) {
	c.Helper()
	skipped = map[string]bool{}
	r, w := io.Pipe()
	go func() {
		w.CloseWithError(archive(w, apply.TarOptions{Skipped: func(path string) { skipped[path] = true }}))
	}()
	cmd := exec.Command("tar", "-x", "-p", "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*", "--warning=no-timestamp")
	cmd.Dir, cmd.Stdin = c.dir, r
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		c.Fatalf("tar: %v\n%s", err, out)
	}
	return skipped
}

// judge compares the copy with a snapshot and removes it.
func (c copying) judge(snap, how string, fine func(line string) bool) {
	c.Helper()
	lines, err := Differences(snap, c.dir)
	c.must(err)
	for _, line := range lines {
		if !fine(line) {
			c.Errorf("%s: %s", how, line)
		}
	}
	c.must(os.RemoveAll(c.dir))
}

// judgeCopy brings copies of the older snapshot up to date with rm and rsync from lists, and with an archive, and judges them by the
// newer one.
func (k *keeper) judgeCopy(c *apply.Comparison, from, to string) {
	k.Helper()
	ctx := context.Background()
	var gone, changed bytes.Buffer
	k.must(c.Deleted(ctx, func(path string) error { gone.WriteString(path + "\x00"); return nil }))
	met := map[string]bool{}
	k.must(c.Paths(ctx, apply.PathsOptions{}, func(path string) error {
		if met[path] {
			k.Errorf("%q is listed twice", path)
		}
		met[path] = true
		changed.WriteString("./" + path + "\x00")
		return nil
	}))
	copied := k.copyOf(from)
	copied.exec(gone.String(), "xargs", "-0", "rm", "-rf", "--")
	copied.exec(changed.String(), "rsync", "-aHAX", "--filter=-x btrfs.*", "--filter=-x trusted.SGI_ACL_*", "--ignore-times", "--modify-window=-1",
		"--from0", "--files-from=-", to+"/", ".")
	copied.judge(to, "copied by rsync", func(line string) bool { return strings.Contains(line, ": holes is") }) // rsync fills or makes them as it likes

	copied = k.copyOf(from)
	copied.exec(gone.String(), "xargs", "-0", "rm", "-rf", "--")
	skipped := copied.extract(func(w io.Writer, o apply.TarOptions) error { return c.Tar(ctx, w, "", o) })
	copied.judge(to, "copied by tar --since", func(line string) bool {
		return strings.Contains(line, ": holes is") || isSkipped(skipped, line) || isKeptXattr(line, from, to)
	})
}

// isKeptXattr tells of a directory that was there before: tar gives it the extended attributes of the archive, and takes none away.
func isKeptXattr(line, from, to string) bool {
	text, _, ok := strings.Cut(line, ": xattrs is ")
	path, err := strconv.Unquote(text)
	isDir := func(top string) bool {
		st, err := os.Lstat(filepath.Join(top, path))
		return err == nil && st.IsDir()
	}
	return ok && err == nil && isDir(from) && isDir(to)
}

// isSkipped tells of a path that an archive cannot hold (a socket): it is missing, or still what it was before.
func isSkipped(skipped map[string]bool, line string) bool {
	for path := range skipped {
		if strings.HasPrefix(line, fmt.Sprintf("%q: ", path)) {
			return true
		}
	}
	return false
}

// judgeTar extracts an archive of a whole restore point and judges it.
func (k *keeper) judgeTar(run int, snap string) {
	k.Helper()
	k.Logf("archive of r%d", run)
	v, err := apply.OpenView(k.store, "", int64(run))
	k.must(err)
	defer v.Close()
	copied := k.copyOf("")
	skipped := copied.extract(func(w io.Writer, o apply.TarOptions) error { return v.Tar(context.Background(), w, "", o) })
	copied.judge(snap, fmt.Sprintf("archive of r%d", run), func(line string) bool { return isSkipped(skipped, line) })
}
