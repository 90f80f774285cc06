// Package floor makes the bare system calls of a run: what no program can do without that brings the same change into a
// copy, keeps what it replaces and makes that safe. No catalog, no checks, no way back after a cut: a floor to measure by, and
// nothing to keep a copy with.
package floor

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// The steps of a plan.
const (
	gone  = 'g' // a file that went altogether: into the history
	move  = 'm' // a file that got another name
	fresh = 'n' // a new file
	anew  = 'r' // a file with other contents: what was there goes into the history
	meta  = 'a' // owner, mode and times of a file
	times = 'd' // the times of a directory in which something was done
)

// step is one thing to do. to is set for a move.
type step struct {
	kind     byte
	path, to string
}

// Plan writes down what a change set needs: for each step a letter and its paths, each ended by a NUL. Of a source that has
// hard links, or whose directories come and go, it knows nothing.
func Plan(set *diff.ChangeSet, out io.Writer) error {
	w := bufio.NewWriter(out)
	dirs := map[string]bool{".": true}
	var err error
	put := func(kind byte, path, to string) {
		fmt.Fprintf(w, "%c%s\x00", kind, path)
		if kind == move {
			fmt.Fprintf(w, "%s\x00", to)
		}
		if kind != meta {
			dirs[parent(path)], dirs[parent(to)] = true, true
		}
	}
	set.Gone.Ascend(func(g diff.Gone) bool {
		if g.BaseAttr.IsDir() || len(g.BasePaths) != 1 {
			err = fmt.Errorf("%q is a directory or has several names: the floor has no step for that", g.BasePaths[0])
		}
		put(gone, g.BasePaths[0], g.BasePaths[0])
		return err == nil
	})
	set.Inodes.Ascend(func(in diff.Inode) bool {
		err = putInode(in, put)
		return err == nil
	})
	if err != nil {
		return err
	}
	for dir := range dirs {
		fmt.Fprintf(w, "%c%s\x00", times, dir)
	}
	return w.Flush()
}

func putInode(in diff.Inode, put func(kind byte, path, to string)) error {
	path := in.Paths[0]
	switch {
	case in.Attr.IsDir() && in.What&diff.New == 0:
		return nil // its times are among those of all that were disturbed
	case in.Attr.Type() != unix.S_IFREG || len(in.Paths) != 1 || len(in.BasePaths) > 1:
		return fmt.Errorf("%q is a new directory, no regular file, or has several names: the floor has no step for that", path)
	case in.What&diff.New != 0:
		put(fresh, path, path)
		return nil
	}
	if in.BasePaths[0] != path {
		put(move, in.BasePaths[0], path)
	}
	switch {
	case in.What&diff.Data != 0:
		put(anew, path, path)
	case in.What&(diff.Meta|diff.Xattrs) != 0:
		put(meta, path, path)
	}
	return nil
}

// read reads a plan; the steps of each kind are in the order of their paths.
func read(path string) (map[byte][]step, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	steps := map[byte][]step{}
	for len(data) > 0 {
		s := step{kind: data[0]}
		s.path, data = cut(data[1:])
		if s.kind == move {
			s.to, data = cut(data)
		}
		steps[s.kind] = append(steps[s.kind], s)
	}
	for _, of := range steps {
		slices.SortFunc(of, func(a, b step) int { return strings.Compare(a.path, b.path) })
	}
	return steps, nil
}

func cut(data []byte) (string, []byte) {
	text, rest, _ := bytes.Cut(data, []byte{0})
	return string(text), rest
}

// parent is the directory of a path, "." for the top.
func parent(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return "."
}
