package zfs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"snapdiff/snapshot"
)

// Child is a dataset below another one in its pool.
type Child struct {
	Dataset
	// Place is where it is mounted, or would be, below the mount point of the source; "" where it is not to be taken.
	Place string
	// Why says why it is not.
	Why string
}

// Children are all datasets below this one, by their places, those that have none last. Where a dataset belongs is where it is mounted, or what
// its property mountpoint says. One that another dataset was mounted over, or over a directory above it, has no place: nobody sees it there.
func (d Dataset) Children(ctx context.Context) ([]Child, error) {
	lines, err := run(ctx, "list", "-H", "-p", "-r", "-t", "filesystem,volume", "-o", "name,guid,type,canmount,mountpoint,keystatus,xattr", d.Name)
	if err != nil {
		return nil, fmt.Errorf("list the datasets below %s: %w", d.Name, err)
	}
	t, err := readMounts()
	if err != nil {
		return nil, err
	}
	top, topMount := d.Dir, t.of(d.Name, d.Dir)
	var all []Child
	for _, f := range lines {
		if len(f) != 7 {
			return nil, fmt.Errorf("list the datasets below %s: a line of %d fields: %q", d.Name, len(f), f)
		}
		if f[0] == d.Name {
			if top == "" {
				top = filepath.Clean(f[4]) // it is as somebody wrote it
			}
			continue
		}
		c := Child{Dataset: Dataset{Name: f[0], GUID: f[1], Locked: f[5] == "unavailable", AttrFiles: attrFiles(f[6])}}
		m, over := t.below(c.Name, top, topMount)
		c.mountedAt(m)
		c.place(f[2], f[3], f[4], top, topMount != nil)
		if over != "" {
			c.Place, c.Why = "", over+" is mounted over it"
		}
		all = append(all, c)
	}
	if !strings.HasPrefix(top, "/") {
		return nil, fmt.Errorf("dataset %s is not mounted and has no mountpoint, so nobody knows where the datasets below it belong", d.Name)
	}
	sortPlaces(all)
	return all, nil
}

// place finds out where a dataset belongs; top is the mount point of the source. Where the source is not mounted itself, datasets that never are
// are the directories around others.
func (c *Child) place(kind, canmount, mountpoint, top string, mounted bool) {
	dir := c.Dir
	if dir == "" {
		dir = filepath.Clean(mountpoint)
	}
	rel, below := strings.CutPrefix(dir, strings.TrimSuffix(top, "/")+"/")
	switch {
	case kind != "filesystem":
		c.Why = "it is a volume"
	case c.Dir == "" && canmount == "off" && mounted:
		c.Why = "canmount is off"
	case c.Dir == "" && canmount == "noauto":
		c.Why = "canmount is noauto, and it is not mounted"
	case !below || rel == "":
		c.Why = "its mount point is not below that of the source"
	default:
		c.Place = rel
	}
}

// sortPlaces puts datasets in order. Of two with one place the one that is mounted has it.
func sortPlaces(all []Child) {
	slices.SortStableFunc(all, func(a, b Child) int {
		switch {
		case (a.Place == "") != (b.Place == ""):
			return len(b.Place) - len(a.Place)
		case a.Place != b.Place:
			return strings.Compare(a.Place, b.Place)
		case (a.Dir == "") != (b.Dir == ""):
			return len(b.Dir) - len(a.Dir)
		}
		return strings.Compare(a.Name, b.Name)
	})
	taken := ""
	for i := range all {
		c := &all[i]
		if c.Place != "" && c.Place == taken {
			c.Place, c.Why = "", "another dataset has its mount point"
		}
		if c.Place != "" {
			taken = c.Place
		}
	}
}

// TakeAll takes snapshots of the dataset and of these below it, all at one instant, and holds them; see Take. The children in the mark have no
// numbers yet.
func TakeAll(ctx context.Context, d Dataset, children []Child, name, tag string) (snapshot.Mark, error) {
	if !strings.HasPrefix(name, Prefix) {
		return snapshot.Mark{}, fmt.Errorf("take snapshot %q: names of our snapshots begin with %q", name, Prefix)
	}
	if err := errors.Join(ctx.Err(), checkPool(d.Name)); err != nil {
		return snapshot.Mark{}, err
	}
	sets, names := []Dataset{d}, []string{d.Name + "@" + name}
	for _, c := range children {
		sets, names = append(sets, c.Dataset), append(names, c.Name+"@"+name)
	}
	for _, s := range sets {
		if err := s.flush(); err != nil {
			return snapshot.Mark{}, err
		}
	}
	asked := time.Now()
	if _, err := run(ctx, append([]string{"snapshot"}, names...)...); err != nil {
		return snapshot.Mark{}, fmt.Errorf("take a snapshot of %s and the datasets below it: %w", d.Name, err)
	}
	mark, err := holdAll(ctx, d, sets, names, tag)
	if err != nil {
		for _, name := range names {
			err = errors.Join(err, Destroy(context.WithoutCancel(ctx), name, tag))
		}
		return snapshot.Mark{}, err
	}
	mark.Taken, mark.Recursive = asked, true
	for i, c := range children {
		mark.Children[i].Dir, mark.Children[i].Mark.Taken = []byte(c.Place), asked
	}
	return mark, nil
}

// holdAll holds the snapshots of these full names and gives their marks, those of the first with the others as its children.
func holdAll(ctx context.Context, d Dataset, sets []Dataset, names []string, tag string) (mark snapshot.Mark, err error) {
	if _, err := run(ctx, append([]string{"hold", tag}, names...)...); err != nil {
		return mark, err
	}
	found, err := list(ctx, d, append([]string{"-t", "snapshot"}, names...)...)
	if err != nil {
		return mark, err
	}
	marks := map[string]snapshot.Mark{}
	for _, h := range found {
		marks[h.Path] = h.Mark
	}
	for i, name := range names {
		m, ok := marks[name]
		if !ok {
			return mark, fmt.Errorf("snapshot %s is not there after it was taken", name)
		}
		m.Source, m.Parent = sets[i].GUID, sets[i].GUID
		if i == 0 {
			mark = m
		} else {
			mark.Children = append(mark.Children, snapshot.Child{Mark: m})
		}
	}
	return mark, nil
}

// ListAll gives all snapshots of the dataset and of those below it, in no order. Their marks do not tell of which dataset they are: Path does.
func ListAll(ctx context.Context, d Dataset) ([]Held, error) {
	return list(ctx, d, "-t", "snapshot", "-r", d.Name)
}
