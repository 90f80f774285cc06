package conformance

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/job"
)

// TestHugeXattrs: attributes as large as they can be. A mirror that can hold them has them, as history has; one that cannot names what has them, with all
// else done: what lies in a directory that has one too.
func TestHugeXattrs(t *testing.T) {
	for mirror, holds := range map[Kind]bool{XFS: true, Ext4: false} {
		t.Run(string(mirror), func(t *testing.T) {
			newBench(t, drivers[0], mirror).hugeXattrs(16_000, holds) // more than that no btrfs takes
		})
	}
}

// TestLVMHugeXattrs: so it is with the largest that Linux knows, of 64 KiB.
func TestLVMHugeXattrs(t *testing.T) {
	for mirror, holds := range map[Kind]bool{XFS: true, Ext4: false} {
		t.Run(string(mirror), func(t *testing.T) {
			newBench(t, lvmDriver(Thin, XFS), mirror).hugeXattrs(64<<10, holds)
		})
	}
}

func (b *bench) hugeXattrs(size int, holds bool) {
	b.Helper()
	dir, value := b.origin.dir, strings.Repeat("v", size)
	Apply(b, dir, Create("plain", 5000, 1), SetXattr("plain", "user.x", "1"), Create("huge", 5000, 2), SetXattr("huge", "user.x", value),
		Mkdir("d"), Create("d/in", 10, 3), SetXattr("d", "user.x", value), Create("meta", 10, 9))
	var lacks []string
	if !holds {
		lacks = []string{"d", "huge"}
	}
	b.lacks("first", lacks)
	Apply(b, dir, Append("plain", 10, 4), Append("huge", 10, 5), Create("d/new", 10, 6), SetXattr("d", "user.y", "1"), Create("late", 5000, 7))
	b.lacks("native", lacks)
	Apply(b, dir, SetXattr("late", "user.x", value), Append("late", 10, 8), SetXattr("meta", "user.x", value), Chmod("meta", 0o4750))
	if !holds {
		lacks = append(lacks, "late", "meta")
	}
	b.lacks("native", lacks)
	if !holds { // it has what it had
		if lines, err := Differences(dir, b.job.Store+"/tree"); err != nil || !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, `"late": size is 5000, want 5010`) }) {
			b.Errorf("%v: %q", err, lines)
		}
	}
	Apply(b, dir, RemoveXattr("huge", "user.x"), RemoveXattr("d", "user.x"), RemoveXattr("late", "user.x"), RemoveXattr("meta", "user.x"))
	b.native()
	b.judgePastIn(filepath.Dir(b.job.Store))
	_, err := apply.Rebuild(b.Context(), b.job.Store) // the manifests have them too
	b.must(err)
	b.judgePastIn(filepath.Dir(b.job.Store))
}

// TestTooManyXattrs: somebody gives a file and a directory more attributes than the kernel lists (XATTR_LIST_MAX). Both are named, and all else is done.
func TestTooManyXattrs(t *testing.T) { newBench(t, drivers[0], Ext4).tooManyXattrs() }

// TestLVMTooManyXattrs: so it is where the comparison asks the kernel for them.
func TestLVMTooManyXattrs(t *testing.T) { newBench(t, lvmDriver(Thin, XFS), Ext4).tooManyXattrs() }

func (b *bench) tooManyXattrs() {
	b.Helper()
	dir := b.origin.dir
	Apply(b, dir, Create("plain", 5000, 1), Create("many", 5000, 2), Mkdir("d"), Create("d/in", 10, 3), Mkdir("e"), Create("e/in", 10, 3), Create("late", 5000, 2))
	tooMany := func(name string) {
		for i := range 300 {
			Apply(b, dir, SetXattr(name, fmt.Sprintf("user.%03d%s", i, strings.Repeat("n", 240)), "1"))
		}
	}
	tooMany("many")
	tooMany("d")
	b.lacks("first", []string{"d", "many"})
	tooMany("late")
	tooMany("e")
	Apply(b, dir, Append("plain", 10, 4), Append("many", 10, 5), Create("d/new", 10, 6), Append("e/in", 10, 6), Rename("late", "e/late"))
	b.lacks("native", []string{"d", "e", "e/late", "many"})
	Apply(b, dir, Remove("many"), RemoveAll("d"), RemoveAll("e"))
	b.native()
}

// lacks makes a run that cannot copy what has these names, and can all else.
func (b *bench) lacks(how string, names []string) {
	b.Helper()
	if len(names) == 0 {
		if r := b.run(); r.How != how {
			b.Errorf("the run compared %s: %s", r.How, r.Reason)
		}
		return
	}
	reports, err := job.Run(b.Context(), b.job, job.Options{Say: b.Logf})
	var incomplete *job.Incomplete
	if !errors.As(err, &incomplete) || len(reports) != 1 || reports[0].How != how {
		b.Fatalf("the run says %v: %+v", err, reports)
	}
	var got []string
	for _, p := range reports[0].Incomplete {
		b.Log(p.Error)
		got = append(got, p.Path.Path)
	}
	slices.Sort(got)
	if !slices.Equal(got, names) {
		b.Errorf("incomplete are %q, want %q", got, names)
	}
	lines, err := Differences(b.origin.dir, b.job.Store+"/tree")
	if err == nil { // the judge reads attributes too
		for _, line := range lines {
			if !slices.ContainsFunc(names, func(name string) bool {
				return strings.HasPrefix(line, fmt.Sprintf("%q: ", strings.TrimPrefix(name, ".")))
			}) {
				b.Errorf("another difference: %.200s", line)
			}
		}
	}
	v, err := job.Verify(b.Context(), b.job, job.VerifyOptions{}, b.Logf)
	if err != nil || v.Differences != 0 {
		b.Errorf("verify says %v: %+v", err, v)
	}
}
