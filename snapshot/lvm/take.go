package lvm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"snapdiff/snapshot"
)

// Prefix begins the name of every snapshot that is ours. Nothing else is listed or destroyed.
const Prefix = "snapdiff_"

// Above these, in percent, no snapshot is taken: a pool or a classic snapshot that fills up harms more than a backup that is
// late.
const (
	FullData     = 95 // of a thin pool's data, or of a classic snapshot
	FullMetadata = 90 // of a thin pool's metadata
)

// ErrFull says that there is too little room to take another snapshot.
var ErrFull = errors.New("there is too little room for a snapshot")

// New says how a snapshot is to be made.
type New struct {
	// Name is its name, which begins with Prefix. LVM allows letters, digits and "+_.-" and about 100 bytes.
	Name string
	// Tag is shown by lvs -o+tags and says whose it is; may be "".
	Tag string
	// Percent of the origin is the size of a classic snapshot.
	Percent int
	// Beside is the UUID of an older snapshot that will be opened too; may be "". It costs less to activate both at once.
	Beside string
}

// Take takes a read-only snapshot of the source: a thin one of a thin volume, else a classic one. The kernel writes out and
// freezes a mounted filesystem meanwhile. ErrFull and ErrFilesystem say why it refuses.
func (s *Source) Take(ctx context.Context, n New) (mark snapshot.Mark, err error) {
	origin, all, err := s.state(ctx)
	if err != nil {
		return mark, err
	}
	return s.take(ctx, origin, all, n)
}

// TakeOf is Take for the state of a snapshot that somebody else made, "vg/lv" or "lv". Of a thin one a snapshot of our own is
// taken, so that its owner may expire it; a classic one is used as it is.
func (s *Source) TakeOf(ctx context.Context, name string, n New) (mark snapshot.Mark, err error) {
	origin, all, err := s.state(ctx)
	if err != nil {
		return mark, err
	}
	if !strings.Contains(name, "/") {
		name = origin.VG + "/" + name
	}
	v, ok := byPath(all, name)
	switch {
	case !ok:
		return mark, fmt.Errorf("snapshot %s: %w", name, snapshot.ErrGone)
	case v.OriginUUID != s.uuid:
		return mark, fmt.Errorf("%s is no snapshot of %s", name, origin.Path())
	case v.Invalid:
		return mark, fmt.Errorf("snapshot %s: %w", name, ErrOverflowed)
	case v.Thin():
		if mark, err = s.take(ctx, v, all, n); err == nil {
			mark.Taken, mark.Trans = v.Created.UTC(), uint64(v.Created.UnixNano())
		}
		return mark, err
	case !v.ReadOnly:
		return mark, advise("lvchange -p r "+name, "snapshot %s is writable", name)
	}
	start, err := readDirect(v.Device, v.UUID, "", startSize)
	if err == nil {
		err = checkForeign(v, start)
	}
	mark = s.mark(v, start, v.Created)
	mark.Foreign = true
	return mark, err
}

// take takes a snapshot of the source, or of a thin snapshot of it.
func (s *Source) take(ctx context.Context, of Volume, all []Volume, n New) (mark snapshot.Mark, err error) {
	if !strings.HasPrefix(n.Name, Prefix) {
		return mark, fmt.Errorf("take snapshot %q: names of our snapshots begin with %q", n.Name, Prefix)
	}
	if err := room(of, all, n); err != nil {
		return mark, err
	}
	still, err := frozen(of)
	if err != nil {
		return mark, err
	}
	during := session(of)
	taken := time.Now()
	made, err := s.make(ctx, of, all, n)
	if err != nil {
		return mark, fmt.Errorf("take a snapshot of %s: %w", of.Path(), err)
	}
	ctx = context.WithoutCancel(ctx) // what is there now must be looked after
	start, err := s.settle(ctx, made, of, still)
	if err != nil {
		return mark, errors.Join(fmt.Errorf("take a snapshot of %s: %w", of.Path(), err), s.Remove(ctx, made.UUID))
	}
	mark = s.mark(made, start, taken)
	if during != "" && during == session(of) {
		mark.Session = during
	}
	return mark, nil
}

// make makes the snapshot, active, and activates the one that is to be opened beside it.
func (s *Source) make(ctx context.Context, of Volume, all []Volume, n New) (Volume, error) {
	commands := [][]string{lvcreate(of, n)}
	beside, ok := byUUID(all, n.Beside)
	if ok = ok && beside.Thin() && !beside.Active; ok {
		commands = append(commands, activation(beside))
	}
	err := s.commands.change(ctx, commands...)
	if err != nil && !ok {
		return Volume{}, err
	}
	made, e := s.made(context.WithoutCancel(ctx), of, n.Name)
	if e != nil {
		return made, cmp.Or(err, e)
	}
	if made.Thin() {
		s.idle.add(made) // until it is opened
	}
	if ok && err == nil { // else Open tries again, and says what is wrong
		s.seen.update(beside.UUID, func(v *Volume) { v.Active = true })
		s.idle.add(beside)
	}
	return made, nil
}

// activation is the command that makes the device of a thin snapshot appear.
func activation(v Volume) []string {
	return []string{"lvchange", "-q", "-y", "-a", "y", "-K", v.Path()}
}

// lvcreate is the command that makes a snapshot. A thin one is not activated by default and not at boot.
func lvcreate(origin Volume, n New) []string {
	args := []string{"lvcreate", "-q", "-y", "-s", "-p", "r", "-n", n.Name}
	if n.Tag != "" {
		args = append(args, "--addtag", n.Tag)
	}
	if origin.Thin() {
		args = append(args, "-k", "y", "-a", "y", "-K")
	} else {
		args = append(args, "-l", strconv.Itoa(n.Percent)+"%ORIGIN")
	}
	return append(args, origin.Path())
}

// room refuses to take a snapshot where it would do harm.
func room(origin Volume, all []Volume, n New) error {
	if origin.Thin() {
		pool, ok := byUUID(all, origin.PoolUUID)
		switch {
		case !ok:
			return fmt.Errorf("the thin pool of %s is not there", origin.Path())
		case pool.NeedsCheck:
			return advise("see lvs -o+lv_health_status,lv_check_needed and lvmthin(7), Metadata check and repair", "the thin pool %s has to be checked: %s",
				pool.Path(), pool.Health)
		case pool.Data >= FullData:
			return advise("lvextend -L +SIZE "+pool.Path(), "%w: the data of the thin pool %s is full to %.1f %%", ErrFull, pool.Path(), pool.Data)
		case pool.Metadata >= FullMetadata:
			return advise("lvextend --poolmetadatasize +SIZE "+pool.Path(), "%w: the metadata of the thin pool %s is full to %.1f %%", ErrFull,
				pool.Path(), pool.Metadata)
		case pool.Health != "":
			return advise("see lvs -o+lv_health_status,lv_check_needed and lvmthin(7)", "the thin pool %s is not well: %s", pool.Path(), pool.Health)
		}
		return nil
	}
	for _, v := range all {
		if v.OriginUUID == origin.UUID && strings.HasPrefix(v.Name, Prefix) && !v.Invalid && v.Data >= FullData {
			return advise("lvextend -L +SIZE "+v.Path(), "%w: the snapshot %s that the last run left is full to %.1f %% and would soon be lost",
				ErrFull, v.Path(), v.Data)
		}
	}
	if need := origin.Size / 100 * int64(n.Percent); need > origin.Free {
		return advise("add a disk to the volume group (vgextend), or set snapshot_size lower", "%w: %d %% of %s are %d MiB, and %d MiB are free in the volume group",
			ErrFull, n.Percent, origin.Path(), need>>20, origin.Free>>20)
	}
	return nil
}

// mark describes a snapshot that begins so. Nothing is known of how its source was mounted.
func (s *Source) mark(v Volume, start []byte, taken time.Time) snapshot.Mark {
	return snapshot.Mark{Kind: "lvm", Source: s.uuid, ID: v.UUID, Parent: v.OriginUUID, Path: v.Path(), Taken: taken.UTC(), Trans: uint64(taken.UnixNano()),
		Content: fingerprint(start), Session: unknownSession + v.UUID}
}

// settle sees to it that a new snapshot can be read as it is, and gives the start of it. still says that the filesystem was
// mounted when the snapshot was begun.
func (s *Source) settle(ctx context.Context, made, of Volume, still bool) (start []byte, err error) {
	if still { // and all the while?
		if still, err = frozen(of); err != nil {
			return nil, err
		}
	}
	if start, err = readDirect(made.Device, made.UUID, "", startSize); err != nil {
		return nil, err
	}
	if err = checkClean(made.Device, start, still); !errors.Is(err, ErrRecovery) {
		return start, err
	}
	if err := s.replay(ctx, made); err != nil {
		return nil, err
	}
	if start, err = readDirect(made.Device, made.UUID, "", startSize); err != nil {
		return nil, err
	}
	return start, checkClean(made.Device, start, false)
}

// replay has the journal of a snapshot written back, as the next mount of the source will do with its own. What that changes
// in the snapshot is among the changed blocks.
func (s *Source) replay(ctx context.Context, v Volume) error {
	start, err := readDirect(v.Device, v.UUID, "", startSize)
	if err != nil {
		return err
	}
	kind, err := filesystem(start)
	if err == nil {
		err = checkReplay(kind, start)
	}
	if err != nil {
		return err
	}
	permit := func(what string) error {
		return s.commands.change(ctx, []string{"lvchange", "-q", "-y", "-p", what, v.Path()})
	}
	if err := permit("rw"); err != nil {
		return err
	}
	m, err := mountPrivately(v.Device, kind, true, mountFlags[kind].replay...)
	if err == nil {
		err = m.Close()
	}
	if err != nil {
		return fmt.Errorf("%w, and its journal cannot be replayed: %w", ErrRecovery, err)
	}
	return permit("r")
}

func byPath(all []Volume, path string) (Volume, bool) {
	for _, v := range all {
		if v.Path() == path {
			return v, true
		}
	}
	return Volume{}, false
}
