package zfs

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mounts is which datasets are mounted where, as if there were no other filesystems. (What hides a directory for this process alone, as
// systemd's hardening does, must not hide what the job protects.)
type mounts struct {
	sets   []*mountinfo.Info // those that show the top of a dataset
	around map[*mountinfo.Info]*mountinfo.Info
	at     map[spot]*mountinfo.Info
}

// spot is a directory in a mounted dataset, nil: in none.
type spot struct {
	around *mountinfo.Info
	dir    string
}

func readMounts() (*mounts, error) {
	all, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, err
	}
	byID := map[int]*mountinfo.Info{}
	for _, m := range all {
		byID[m.ID] = m
	}
	t := &mounts{around: map[*mountinfo.Info]*mountinfo.Info{}, at: map[spot]*mountinfo.Info{}}
	for _, m := range all {
		if !showsDataset(m) {
			continue
		}
		up := byID[m.Parent]
		for up != nil && !showsDataset(up) {
			up = byID[up.Parent]
		}
		t.sets, t.around[m], t.at[spot{up, m.Mountpoint}] = append(t.sets, m), up, m
	}
	return t, nil
}

// showsDataset tells a mount that shows the top of a dataset. Its Source is the dataset's name.
func showsDataset(m *mountinfo.Info) bool {
	return m.FSType == "zfs" && m.Root == "/" && !strings.Contains(m.Source, "@")
}

// of gives the mount of a dataset at dir, else another one of it; nil where it is not mounted.
func (t *mounts) of(name, dir string) (found *mountinfo.Info) {
	for _, m := range t.sets {
		switch {
		case m.Source != name:
		case m.Mountpoint == dir:
			return m
		case found == nil:
			found = m
		}
	}
	return found
}

// below gives the mount of a dataset below the directory where that of the source is, top, or would be, dir: one that can be seen there if it
// has several, else any. over is the dataset that hides it.
func (t *mounts) below(name, dir string, top *mountinfo.Info) (found *mountinfo.Info, over string) {
	for _, m := range t.sets {
		if m.Source != name {
			continue
		}
		if !isBelow(m.Mountpoint, dir) {
			if found == nil {
				found = m
			}
			continue
		}
		by := t.cover(m, dir, top)
		if by == nil {
			return m, ""
		}
		found, over = m, by.Source
	}
	return found, over
}

// cover gives what was mounted over a dataset's mount, or over a directory above it, after it; nil where nothing was. What covers the source
// itself does not count.
func (t *mounts) cover(m *mountinfo.Info, top string, source *mountinfo.Info) *mountinfo.Info {
	var in *mountinfo.Info // what of the way down is mounted in m
	for ; m != nil && m != source && isBelow(m.Mountpoint, top); in, m = m, t.around[m] {
		if over := t.at[spot{m, m.Mountpoint}]; over != nil && over != in {
			return over
		}
		for dir := m.Mountpoint; dir != top; {
			dir = filepath.Dir(dir)
			if over := t.at[spot{t.around[m], dir}]; over != nil && (dir != top || over == source) {
				return over
			}
		}
	}
	return nil
}

// isBelow tells whether a clean path is below a directory.
func isBelow(path, dir string) bool {
	return path != dir && strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// flush writes out what programs changed through mmap: unlike other writes it is not in a snapshot otherwise.
func (d Dataset) flush() error {
	if d.Dir == "" {
		return nil
	}
	fd, err := unix.Open(d.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && st.Dev == d.dev {
			return d.syncfs(fd)
		}
	}
	// Something else is mounted there, or above it.
	fd, err = attach(d.Name, false)
	if err == unix.EBUSY || err == unix.EROFS { // mounted read-only: nothing is dirty
		return nil
	}
	if err != nil {
		return fmt.Errorf("write out what is dirty in %s: %w", d.Name, err)
	}
	defer unix.Close(fd)
	top, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("write out what is dirty in %s: %w", d.Name, err)
	}
	defer unix.Close(top)
	return d.syncfs(top)
}

func (d Dataset) syncfs(fd int) error {
	if err := unix.Syncfs(fd); err != nil {
		return fmt.Errorf("write out what is dirty in %s: %w", d.Dir, err)
	}
	return nil
}
