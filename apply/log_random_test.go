package apply_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
	"snapdiff/snapshot"
)

// census is which inode each path of a snapshot means.
type census struct {
	run   int64
	at    map[string]diff.Key
	names map[diff.Key][]string // sorted
	kinds map[diff.Key]uint32
}

func (k *keeper) census(run int, mark snapshot.Mark) census {
	k.Helper()
	c := census{int64(run), map[string]diff.Key{}, map[diff.Key][]string{}, map[diff.Key]uint32{}}
	root := k.open(mark)
	defer root.Close()
	keys := btrfsfeed.Keys(root)
	for _, path := range slices.Sorted(maps.Keys(pathsIn(k.TB, mark.Path))) {
		st, err := root.Lstat(path)
		k.must(err)
		key, err := keys(path, st.Ino)
		k.must(err)
		c.at[path], c.names[key], c.kinds[key] = key, append(c.names[key], path), st.Mode&unix.S_IFMT
	}
	return c
}

// judgeLog compares the histories of paths with what the snapshots of the restore points say: when each inode that was at the
// path came, went and moved.
func (k *keeper) judgeLog(all []census) {
	k.Helper()
	paths := map[string]bool{"never/was": true}
	for _, c := range all {
		for path := range c.at {
			if !strings.HasPrefix(path, "wide/") {
				paths[path] = true
			}
		}
	}
	for path := range paths {
		want := expectedLog(all, path)
		entries, err := apply.Log(k.store, "", path)
		if len(want) == 0 {
			if !errors.Is(err, apply.ErrNowhere) {
				k.Errorf("log %q: %v, want that it never was", path, err)
			}
			continue
		}
		k.must(err)
		got := map[string]bool{}
		for _, e := range entries {
			switch {
			case e.Why&apply.ReasonReplaced != 0:
				got[fmt.Sprintf("r%d - %q", e.Point.Run, e.Path)], got[fmt.Sprintf("r%d + %q", e.Point.Run, e.Path)] = true, true
			case e.Kind == apply.Renamed:
				got[fmt.Sprintf("r%d R %q -> %q", e.Point.Run, e.OldPath, e.Path)] = true
			case e.Kind != apply.Modified:
				got[fmt.Sprintf("r%d %c %q", e.Point.Run, e.Kind, e.Path)] = true
			}
		}
		if !maps.Equal(got, want) {
			k.Errorf("log %q:\n got %q\nwant %q", path, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	}
}

// expectedLog is when all that ever was at a path came, went and moved.
func expectedLog(all []census, path string) map[string]bool {
	want := map[string]bool{}
	done := map[diff.Key]bool{}
	one := func(paths []string) string {
		if slices.Contains(paths, path) {
			return path
		}
		return paths[0]
	}
	minus := func(a, b []string) []string {
		return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
	}
	for _, c := range all {
		key, ok := c.at[path]
		if !ok || done[key] {
			continue
		}
		done[key] = true
		var was []string
		for i, c := range all {
			is := c.names[key]
			went, came := minus(was, is), minus(is, was)
			switch {
			case len(is) > 0 && len(was) == 0 && i == 0:
				want[fmt.Sprintf("r%d = %q", c.run, one(is))] = true
			case len(is) > 0 && len(was) == 0:
				want[fmt.Sprintf("r%d + %q", c.run, one(is))] = true
			case len(is) == 0 && len(was) > 0:
				want[fmt.Sprintf("r%d - %q", c.run, one(was))] = true
			case len(went) > 0 && len(came) > 0:
				want[fmt.Sprintf("r%d R %q -> %q", c.run, one(went), one(came))] = true
			}
			was = is
		}
	}
	return want
}

// judgeFind compares what is found with the paths of the snapshots, at every restore point.
func (k *keeper) judgeFind(all []census) {
	k.Helper()
	last := len(all) - 1
	for _, pattern := range []string{"*", "n[1-3]", "*/n2/*", "d/*", "never"} {
		want, gone := map[string]bool{}, map[string]bool{}
		for i, c := range all {
			for path := range c.at {
				what := path
				if !strings.Contains(pattern, "/") {
					what = path[strings.LastIndexByte(path, '/')+1:]
				}
				if !apply.MatchGlob(pattern, what) {
					continue
				}
				want[fmt.Sprintf("%q %d", path, i)] = true
				if _, still := all[last].at[path]; !still {
					gone[fmt.Sprintf("%q %d", path, i)] = true
				}
			}
		}
		k.compareFound(all, pattern, want, apply.FindOptions{})
		k.compareFound(all, pattern, gone, apply.FindOptions{Gone: true})
	}
}

func (k *keeper) compareFound(all []census, pattern string, want map[string]bool, o apply.FindOptions) {
	k.Helper()
	got := map[string]bool{}
	k.must(apply.Find(context.Background(), k.store, "", pattern, o, func(f apply.Found) error {
		for i, c := range all {
			if c.run < f.From.Run || c.run > f.To.Run {
				continue
			}
			line := fmt.Sprintf("%q %d", f.Path, i)
			if got[line] || !want[line] {
				k.Errorf("find %q %+v: %s is too much (twice: %v)", pattern, o, line, got[line])
			}
			got[line] = true
			if key, ok := c.at[f.Path]; ok && c.run == f.To.Run && c.kinds[key] != f.Type {
				k.Errorf("find %q: %q is of type %o, want %o", pattern, f.Path, f.Type, c.kinds[key])
			}
		}
		if f.Still != (f.To.Run == all[len(all)-1].run) {
			k.Errorf("find %q: %q until r%d is still there: %v", pattern, f.Path, f.To.Run, f.Still)
		}
		return nil
	}))
	for line := range want {
		if !got[line] {
			k.Errorf("find %q %+v: %s is missing", pattern, o, line)
		}
	}
}
