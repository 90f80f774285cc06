package btrfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot"
)

// Prefix begins the name of every snapshot that is ours. Nothing else is listed or destroyed.
const Prefix = "snapdiff-"

// Name is a name for a snapshot taken at the time given.
func Name(taken time.Time) string {
	return Prefix + taken.UTC().Format("20060102T150405.000000000Z")
}

// Create takes a read-only snapshot of the subvolume source as dir/name. The kernel writes out what is dirty in the
// source and has committed the snapshot when this returns. name must begin with Prefix.
//
// What waits to be written is committed first: the next comparison also reads what carries the snapshot's own transaction, so
// there should be little of it.
func Create(source, dir, name string) (snapshot.Mark, error) {
	src, err := openDir(source)
	if err != nil {
		return snapshot.Mark{}, err
	}
	defer src.Close()
	if err := ioctl(int(src.Fd()), iocSync, nil); err != nil {
		return snapshot.Mark{}, explain("sync filesystem of", source, err)
	}
	return createFrom(src, source, dir, name)
}

// createFrom is Create of a subvolume that is open, after the commit; source is how messages call it.
func createFrom(src *os.File, source, dir, name string) (snapshot.Mark, error) {
	if !strings.HasPrefix(name, Prefix) {
		return snapshot.Mark{}, fmt.Errorf("take snapshot %q: names of our snapshots begin with %q", name, Prefix)
	}
	from, err := infoOf(int(src.Fd()), source)
	if err != nil {
		return snapshot.Mark{}, err
	}
	args := volArgsV2{FD: int64(src.Fd()), Flags: flagReadOnly}
	if err := namedIoctl("take snapshot of "+source+" as", dir, name, iocSnapCreateV2, args); err != nil {
		return snapshot.Mark{}, err
	}
	path := filepath.Join(dir, name)
	mark, err := MarkOf(path)
	if err == nil && mark.Parent != from.UUID.String() {
		err = fmt.Errorf("snapshot %s: its parent is %s, not the source %s", path, mark.Parent, from.UUID)
	}
	if err != nil {
		return snapshot.Mark{}, errors.Join(err, Destroy(dir, name))
	}
	mark.Session = session(int(src.Fd())) // src is open: nothing was unmounted meanwhile
	return mark, nil
}

// CreateOf takes a snapshot of our own of a read-only snapshot that somebody else made, so that its owner may expire his.
// The mark stands for what his stands for: same source, parent, bound and date. (The bound must be his: what changed in
// the source between his snapshot and ours is newer than his, but not newer than ours.)
func CreateOf(foreign, dir, name string) (snapshot.Mark, error) {
	his, err := MarkOf(foreign)
	if err != nil {
		return snapshot.Mark{}, err
	}
	if his.Content > his.Trans {
		return snapshot.Mark{}, fmt.Errorf("snapshot %s: %w since it was made: take another one", foreign, snapshot.ErrAltered)
	}
	ours, err := Create(foreign, dir, name)
	if err != nil {
		return snapshot.Mark{}, err
	}
	ours.Source, ours.Parent, ours.Trans, ours.Taken, ours.Session = his.Source, his.Parent, his.Trans, his.Taken, ""
	return ours, nil
}

// ErrWritable says that a subvolume is not a read-only snapshot.
var ErrWritable = errors.New("not a read-only snapshot")

// MarkOf describes the read-only snapshot at path; ErrWritable if it is something else.
func MarkOf(path string) (snapshot.Mark, error) {
	info, err := Info(path)
	if err != nil {
		return snapshot.Mark{}, err
	}
	if !info.ReadOnly || info.ParentUUID == (UUID{}) {
		return snapshot.Mark{}, &fs.PathError{Op: "look at snapshot", Path: path, Err: ErrWritable}
	}
	return info.mark(path), nil
}

func (info SubvolInfo) mark(path string) snapshot.Mark {
	return snapshot.Mark{
		Kind: "btrfs", Source: info.ParentUUID.String(), ID: info.UUID.String(), Parent: info.ParentUUID.String(),
		Path: path, Trans: info.OTransid, Content: info.CTransid, Taken: info.OTime,
	}
}

// Destroy removes our snapshot dir/name. The kernel frees its space later, and nobody waits for that.
func Destroy(dir, name string) error {
	if !strings.HasPrefix(name, Prefix) {
		return fmt.Errorf("destroy %q in %s: not a snapshot of ours, their names begin with %q", name, dir, Prefix)
	}
	return namedIoctl("destroy snapshot", dir, name, iocSnapDestroyV2, volArgsV2{})
}

// List gives our snapshots of the subvolume source in dir, oldest first. A directory that does not exist holds none.
func List(source, dir string) ([]snapshot.Mark, error) {
	from, err := Info(source)
	if err != nil {
		return nil, err
	}
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var marks []snapshot.Mark
	for _, entry := range names {
		if !entry.IsDir() || !strings.HasPrefix(entry.Name(), Prefix) {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		info, err := Info(path)
		if errors.Is(err, ErrNotSubvolume) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if info.ParentUUID == from.UUID {
			marks = append(marks, info.mark(path))
		}
	}
	slices.SortFunc(marks, func(a, b snapshot.Mark) int { return int(int64(a.Trans) - int64(b.Trans)) })
	return marks, nil
}

// Find gives the path of the snapshot that mark remembers: mark.Path, or a subvolume in dir or one of its lanes (see Places).
// It is known by its UUID alone. snapshot.ErrGone says that it is not there, snapshot.ErrAltered that it is writable or
// was for a while and has changed.
func Find(mark snapshot.Mark, dir string) (string, error) {
	if found, err := isAt(mark, mark.Path); found || err != nil {
		return mark.Path, err
	}
	places, err := Places(dir)
	if err != nil {
		return "", err
	}
	for _, place := range places {
		entries, err := os.ReadDir(place)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for _, entry := range entries {
			path := filepath.Join(place, entry.Name())
			if !entry.IsDir() {
				continue
			}
			if found, err := isAt(mark, path); found || err != nil {
				return path, err
			}
		}
	}
	return "", fmt.Errorf("snapshot %s (%s): %w", mark.ID, mark.Path, snapshot.ErrGone)
}

// isAt tells whether the snapshot is at path; see Find.
func isAt(mark snapshot.Mark, path string) (bool, error) {
	info, err := Info(path)
	switch {
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EIO):
		return false, err
	case err != nil || info.UUID.String() != mark.ID:
		return false, nil
	case !info.ReadOnly || info.CTransid != mark.Content:
		return true, fmt.Errorf("snapshot %s: %w", path, snapshot.ErrAltered)
	}
	return true, nil
}

// Lineage tells why the changes between base and next cannot be found by transaction numbers: "" if they can. They can if
// both are snapshots of one subvolume, the next not the older one, or if next is a snapshot of the base.
func Lineage(base, next snapshot.Mark) string {
	switch {
	case next.Parent == base.ID || next.ID == base.ID:
		return ""
	case base.Parent == "" || next.Parent == "":
		return "the snapshots do not say which subvolume they were taken of"
	case base.Parent != next.Parent:
		return fmt.Sprintf("the source is another subvolume (%s) than the one that the last run saw (%s)", next.Parent, base.Parent)
	case next.Trans < base.Trans:
		return fmt.Sprintf("the new snapshot (transaction %d) is older than the base (transaction %d)", next.Trans, base.Trans)
	}
	return ""
}
