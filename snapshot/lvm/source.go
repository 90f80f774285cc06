package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Source is a logical volume with an ext4 or XFS on it. Close ends its use.
type Source struct {
	vg   string
	uuid string
	dir  string
	seen report
	idle idle

	commands commands
}

// ErrNotVolume says that something is no logical volume, or none of which snapshots can be taken.
var ErrNotVolume = errors.New("not a logical volume that snapshots can be taken of")

// OpenSource finds the volume that is mounted at a path, or that is called "vg/lv". It changes nothing.
func OpenSource(ctx context.Context, name string) (*Source, error) {
	s, err := locate(name)
	if err == nil {
		err = s.open(ctx, name)
	}
	if err != nil {
		if s != nil {
			s.commands.end()
		}
		return nil, err
	}
	return s, nil
}

func (s *Source) open(ctx context.Context, name string) error {
	all, err := s.now(ctx)
	if err != nil {
		return err
	}
	for _, v := range all {
		if v.UUID == s.uuid || s.uuid == "" && v.Path() == name {
			s.uuid = v.UUID
			return s.inspect(v, all)
		}
	}
	return fmt.Errorf("%s: %w: there is none of that name in the volume group %s", name, ErrNotVolume, s.vg)
}

// IsVolume tells whether there is a volume called "vg/lv".
func IsVolume(ctx context.Context, name string) (bool, error) {
	vg, lv, ok := strings.Cut(name, "/")
	if !ok || vg == "" || lv == "" || strings.ContainsAny(name, " \t") || strings.Contains(lv, "/") {
		return false, nil
	}
	if isActive(vg, lv) {
		return true, nil
	}
	_, err := ask(ctx, "lvs", "--noheadings", "-o", "lv_uuid", "--", name)
	if e := (*CommandError)(nil); errors.As(err, &e) {
		return false, nil // LVM says the same of what is not there and of what it cannot read
	}
	return err == nil, err
}

// isActive tells whether there is a device of this volume.
func isActive(vg, lv string) bool {
	var st unix.Stat_t
	if unix.Stat(deviceOf(vg, lv), &st) != nil {
		return false
	}
	id, err := sysfs(st.Rdev, "dm/uuid")
	return err == nil && fromDMUUID(id) != ""
}

// locate finds the volume group, and for a mount point the volume, of a source.
func locate(name string) (*Source, error) {
	if !filepath.IsAbs(name) {
		vg, _, _ := strings.Cut(name, "/")
		return &Source{vg: vg}, nil
	}
	path, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, err
	}
	all, err := mountPoints("self")
	if err != nil {
		return nil, err
	}
	m, ok := mountedAt(all, path)
	switch {
	case !ok:
		return nil, advise("is the volume mounted? name the directory at which it is", "%s: %w: it is no mount point", name, ErrNotVolume)
	case m.Root != "/":
		return nil, advise("name the place where all of it is mounted", "%s: %w: it shows only a part (%s) of its filesystem", name, ErrNotVolume, m.Root)
	}
	id, err := sysfs(numberOf(m), "dm/uuid")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	uuid := fromDMUUID(id)
	if uuid == "" {
		return nil, fmt.Errorf("%s: %w: its device %d:%d is none of LVM's", name, ErrNotVolume, m.Major, m.Minor)
	}
	dm, err := sysfs(numberOf(m), "dm/name")
	if err != nil {
		return nil, err
	}
	return &Source{vg: groupOf(dm), uuid: uuid, dir: path}, nil
}

// inspect refuses a volume of which no snapshot can be taken, and finds out where it is mounted.
func (s *Source) inspect(v Volume, all []Volume) error {
	switch {
	case v.Classic():
		origin, _ := byUUID(all, v.OriginUUID)
		return advise("name its origin, "+origin.Path(), "%s: %w: it is itself a snapshot, and LVM takes none of classic snapshots", v.Path(), ErrNotVolume)
	case strings.HasSuffix(v.Segments, "-pool"):
		return advise("name a volume with a filesystem on it", "%s: %w: it is of type %q", v.Path(), ErrNotVolume, v.Segments)
	case v.Segments == "cache" || v.Segments == "writecache": // seen: lvcreate -s fails halfway and wants manual repair
		return advise("put the cache below a thin pool's data, or take it off (lvconvert --splitcache)", "%s: %w: a cache lies over it", v.Path(), ErrNotVolume)
	case s.dir != "" || !v.Active:
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(v.Device, &st); err != nil {
		return &os.PathError{Op: "stat", Path: v.Device, Err: err}
	}
	var err error
	s.dir, err = placeOf(st.Rdev)
	return err
}

// UUID is the identity of the volume.
func (s *Source) UUID() string { return s.uuid }

// Dir is where the volume is mounted, "" when it is not.
func (s *Source) Dir() string { return s.dir }

// state tells what there is in the volume group, and which of it is the source.
func (s *Source) state(ctx context.Context) (origin Volume, all []Volume, err error) {
	if all, err = s.recent(ctx); err != nil {
		return origin, nil, err
	}
	origin, ok := byUUID(all, s.uuid)
	if !ok {
		err = fmt.Errorf("the volume %s is not in the volume group %s any more", s.uuid, s.vg)
	}
	return origin, all, err
}

// frozen tells whether the kernel freezes the filesystem on the origin when a snapshot is taken: it does when it is mounted.
func frozen(origin Volume) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(origin.Device, &st); err != nil {
		return false, nil // not active, so not mounted
	}
	place, err := placeOf(st.Rdev)
	return place != "", err
}
