package applytest

import (
	"fmt"
	"maps"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// Judge fails the test unless the mirror at tree equals the snapshot at snap in all that counts as equal. It asks two judges:
// rsync, which knows nothing of this project, and Differences for what rsync does not see: link groups in both directions,
// holes, paths above 4,096 bytes, placeholders of nested subvolumes. It gives the picture of the mirror that it has read.
//
// exclude are patterns of what the mirror must lack: names, or paths that begin with a slash, as rsync has them.
func Judge(t testing.TB, snap, tree string, exclude ...string) Picture {
	t.Helper()
	want, err := scanTree(snap)
	if err != nil {
		t.Fatalf("judging: reading the snapshot: %v", err)
	}
	maps.DeleteFunc(want, func(path string, _ item) bool { return excluded(path, exclude) })
	lines, err := rsyncDifferences(snap, tree, want, exclude)
	if err != nil {
		t.Errorf("judging: %v", err)
	}
	have, err := scanTree(tree)
	if err != nil {
		t.Fatalf("judging: reading the mirror: %v", err)
	}
	own := differences(want, have)
	if len(lines)+len(own) > 0 {
		t.Fatalf("the mirror differs from its snapshot\nrsync:\n%s\nown comparer:\n%s", firstLines(lines), firstLines(own))
	}
	return Picture{have}
}

// firstLines keeps a report readable.
func firstLines(lines []string) string {
	const most = 30
	if len(lines) > most {
		lines = append(lines[:most:most], fmt.Sprintf("... and %d more", len(lines)-most))
	}
	return strings.Join(lines, "\n")
}

// rsyncDifferences are the lines that a dry run of rsync prints, without those on placeholders: their times mean nothing.
func rsyncDifferences(snap, tree string, want map[string]item, exclude []string) ([]string, error) {
	args := []string{
		"-aHAXn", "--delete", "--checksum", "--modify-window=-1", "--itemize-changes", "--exclude=/.snapdiff",
		// XFS lists each ACL a second time under a name of its own; btrfs.* are inode flags in disguise.
		"--filter=-x trusted.SGI_ACL_*", "--filter=-x btrfs.*",
	}
	for _, pattern := range exclude {
		args = append(args, "--exclude="+pattern)
	}
	for _, dir := range tooDeepForRsync(want) {
		args = append(args, "--exclude=/"+dir)
	}
	out, err := exec.Command("rsync", append(args, snap+"/", tree+"/")...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("rsync: %w\n%s", err, out)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSuffix(line, "\n")
		what, path, _ := strings.Cut(line, " ")
		if strings.HasPrefix(what, ".d") && want[strings.TrimSuffix(path, "/")].placeholder {
			continue
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// excluded tells whether a pattern matches a path or one above it.
func excluded(of string, patterns []string) bool {
	for ; of != "." && of != ""; of = path.Dir(of) {
		for _, p := range patterns {
			name := path.Base(of)
			if strings.HasPrefix(p, "/") {
				name = "/" + of
			}
			if ok, _ := path.Match(p, name); ok {
				return true
			}
		}
	}
	return false
}

// tooDeepForRsync names directories with plain names that hold paths rsync cannot open (PATH_MAX is 4,096, the mount point
// included).
func tooDeepForRsync(items map[string]item) []string {
	const fits, prefix = 3500, 1000
	found := map[string]bool{}
	for path := range items {
		if len(path) > fits {
			found[path[:strings.LastIndexByte(path[:prefix], '/')]] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Differences compares two trees in all that counts as equal and gives one line for each difference, sorted. Nothing of it
// is shared with the product.
func Differences(snap, tree string) ([]string, error) {
	want, err := scanTree(snap)
	if err != nil {
		return nil, fmt.Errorf("reading the snapshot: %w", err)
	}
	return differencesAt(want, tree)
}

// Picture is all that counts as equal of one tree, contents as hashes: something to compare with later, when the tree itself
// has gone on.
type Picture struct{ items map[string]item }

// TakePicture reads a tree whole.
func TakePicture(t testing.TB, tree string) Picture {
	t.Helper()
	items, err := scanTree(tree)
	if err != nil {
		t.Fatalf("reading %s: %v", tree, err)
	}
	return Picture{items}
}

// Judge fails the test unless a tree equals the picture.
func (p Picture) Judge(t testing.TB, tree string) {
	t.Helper()
	lines, err := differencesAt(p.items, tree)
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) > 0 {
		t.Errorf("%s differs from what it was taken of:\n%s", tree, firstLines(lines))
	}
}

func differencesAt(want map[string]item, tree string) ([]string, error) {
	have, err := scanTree(tree)
	if err != nil {
		return nil, fmt.Errorf("reading the mirror: %w", err)
	}
	return differences(want, have), nil
}

func differences(want, have map[string]item) (lines []string) {
	for path, w := range want {
		h, ok := have[path]
		if !ok {
			lines = append(lines, fmt.Sprintf("%q: missing", path))
			continue
		}
		for _, d := range w.differences(h) {
			lines = append(lines, fmt.Sprintf("%q: %s", path, d))
		}
	}
	for path := range have {
		if _, ok := want[path]; !ok {
			lines = append(lines, fmt.Sprintf("%q: too many", path))
		}
	}
	lines = append(lines, linkDifferences(want, have)...)
	slices.Sort(lines)
	return lines
}

// differences names the fields in which the mirror's item differs.
func (w item) differences(h item) (out []string) {
	differ := func(what string, a, b any) {
		if a != b {
			out = append(out, fmt.Sprintf("%s is %v, want %v", what, b, a))
		}
	}
	if w.placeholder {
		differ("type of a placeholder", w.mode&typeMask, h.mode&typeMask)
		return out
	}
	differ("mode", fmt.Sprintf("%o", w.mode), fmt.Sprintf("%o", h.mode))
	differ("owner", w.owner, h.owner)
	differ("device", w.rdev, h.rdev)
	differ("mtime", w.mtime, h.mtime)
	differ("size", w.size, h.size)
	differ("target", w.target, h.target)
	differ("xattrs", w.xattrs, h.xattrs)
	differ("data", w.data, h.data)
	differ("holes", w.holes, h.holes)
	return out
}

// linkDifferences compares which names mean one inode, in both directions, and that no link leads out of either tree.
func linkDifferences(want, have map[string]item) (lines []string) {
	w, h := linkGroups(want), linkGroups(have)
	for path, group := range w {
		if _, ok := have[path]; ok && h[path] != group {
			lines = append(lines, fmt.Sprintf("%q: links are %s, want %s", path, h[path], group))
		}
	}
	for path, it := range have {
		if n := strings.Count(h[path], "\n"); !it.isDir() && it.nlink != n {
			lines = append(lines, fmt.Sprintf("%q: link count is %d for %d names in the mirror", path, it.nlink, n))
		}
	}
	return lines
}

// linkGroups gives for each path that is no directory all names of its inode, each ended by a newline.
func linkGroups(items map[string]item) map[string]string {
	names := map[inode]string{}
	paths := slices.Sorted(maps.Keys(items))
	for _, path := range paths {
		if !items[path].isDir() {
			names[items[path].inode] += fmt.Sprintf("%q\n", path)
		}
	}
	groups := map[string]string{}
	for _, path := range paths {
		if !items[path].isDir() {
			groups[path] = names[items[path].inode]
		}
	}
	return groups
}
