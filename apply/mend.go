package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// Mended is what Mend did.
type Mended struct {
	// Kept says where in the store things are now that were in the mirror and should not have been there.
	Kept []string
	// Problems are files that could not be brought back.
	Problems []Problem
}

// Mend brings the mirror back to the snapshot next of the newest restore point, from which somebody or a bad disk made it differ.
// changes are from the mirror to it, of a full comparison; skip are paths to leave alone: what runs could not copy.
//
// It is no run, and history does not change: the catalog has always said what the mirror should have been, so every restore point
// that has the contents of the mirror has the right ones again. Contents that are replaced are gone; whole files and directories that
// should not be there are kept in history as foreign-N. Cut off, it can be done again: until it has ended the store remembers that the mirror
// is altered (see NeedsFull).
func (s *Store) Mend(ctx context.Context, changes *diff.ChangeSet, next *beneath.Root, skip map[string]bool, opts Options) (*Mended, error) {
	last, cut, err := s.Last()
	switch {
	case err != nil:
		return nil, err
	case last == nil || cut != nil:
		return nil, errors.New("a mirror can only be brought back to a restore point: finish the run that was cut off first")
	}
	x, err := newExecution(ctx, s, last.ID, newPlan(changes), next, opts)
	if err != nil {
		return nil, err
	}
	if err := s.setAltered("the mirror was altered, and bringing it back was cut off"); err != nil {
		return nil, err
	}
	x.committed = true
	x.altered = true // it is known, and being made good
	x.linked, x.unlinked = map[string]bool{}, map[diff.Key]int{}
	m := &mender{execution: x, skip: skip}
	if err := m.mend(); err != nil {
		return nil, fmt.Errorf("bringing the mirror back: %w", err)
	}
	if err := x.sync(); err != nil {
		return nil, err
	}
	err = s.transaction("note that the mirror was brought back", func() error {
		mendable, err := s.Mendable()
		if err == nil && mendable && len(x.problems) == 0 {
			err = s.clearNeedsFull()
		}
		return errors.Join(err, x.keepSums())
	})
	if err != nil {
		return nil, err
	}
	return &Mended{x.allWarnings(), x.problems}, nil
}

type mender struct {
	*execution
	skip map[string]bool
}

func (m *mender) mend() error {
	if err := m.takeOut(); err != nil {
		return err
	}
	for _, n := range m.plan.Linked {
		if n.Type != unix.S_IFDIR || m.skip[n.Path] {
			continue
		}
		if err := m.at("attach directory"); err != nil {
			return err
		}
		if err := m.fill(n.Path, func() error { return m.s.tree.Mkdir(n.Path, 0o700) }); err != nil {
			return err
		}
	}
	var files []*diff.Inode
	for i := range m.plan.Inodes {
		if in := &m.plan.Inodes[i]; !in.Attr.IsDir() && !m.skip[in.Paths[0]] {
			files = append(files, in)
		}
	}
	if err := m.each(len(files), func(i int) error { return m.file(files[i]) }); err != nil {
		return err
	}
	dirs, others := m.disturbedDirs()
	dirs = append(dirs, others...)
	return m.each(len(dirs), func(i int) error { return m.setMeta(diff.Key{}, dirs[i]) })
}

// takeOut keeps what should not be there, each directory as a whole.
func (m *mender) takeOut() error {
	out := ""
	for _, n := range m.plan.Unlinked {
		if m.skip[n.Path] || out != "" && strings.HasPrefix(n.Path, out+"/") {
			continue
		}
		if err := m.at("detach"); err != nil {
			return err
		}
		there, err := exists(m.s.tree, n.Path)
		if err == nil && there {
			err = m.foreign(m.s.tree, n.Path)
		}
		if err != nil {
			return err
		}
		if n.Type == unix.S_IFDIR {
			out = n.Path
		}
	}
	return nil
}

// file brings back one inode. What is made anew takes the place of what is there.
func (m *mender) file(in *diff.Inode) error {
	if in.What&(diff.New|diff.Data) == 0 {
		return m.setFileMeta(in)
	}
	if err := m.at("build"); err != nil {
		return err
	}
	tmp := newName(in.Key)
	_, err := m.build.build(place{m.next, in.Paths[0]}, place{m.s.stage, tmp}, in.Attr.Type(), nil, nil)
	if err == nil {
		err = m.place(in, tmp, true)
	}
	if IsBadFile(err) {
		m.problem(in.Key, in.Paths[0], err)
		return nil
	}
	return err
}
