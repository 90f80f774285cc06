package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
)

// Snapshot is a snapshot that is open for reading: active, and mounted where nobody else sees it.
type Snapshot struct {
	Mark snapshot.Mark
	// Root is the top of the filesystem. It may be closed by whoever uses it; Close does not.
	Root *beneath.Root
	// Device is the snapshot's block device, open for reading.
	Device *os.File
	// Size is that of Device in bytes.
	Size    int64
	volume  Volume
	release []func() error // last first
}

// Open opens the snapshot that mark remembers. snapshot.ErrGone says that it is not there, or that it overflowed;
// snapshot.ErrAltered that it is writable or was for a while and was mounted.
func (s *Source) Open(ctx context.Context, mark snapshot.Mark) (snap *Snapshot, err error) {
	all, err := s.recent(ctx)
	if err != nil {
		return nil, err
	}
	v, ok := byUUID(all, mark.ID)
	switch {
	case !ok:
		return nil, fmt.Errorf("snapshot %s (%s): %w", mark.Path, mark.ID, snapshot.ErrGone)
	case v.Invalid:
		return nil, fmt.Errorf("snapshot %s: %w: %w", v.Path(), snapshot.ErrGone, ErrOverflowed)
	case v.Merging || !isSnapshot(v):
		return nil, fmt.Errorf("snapshot %s: %w: it is being merged into its origin", v.Path(), snapshot.ErrGone)
	case !v.ReadOnly:
		return nil, fmt.Errorf("snapshot %s: %w: it is writable", v.Path(), snapshot.ErrAltered)
	}
	snap = &Snapshot{Mark: mark, volume: v}
	defer func() {
		if err != nil {
			err = errors.Join(err, snap.Close())
			snap = nil
		}
	}()
	if err := snap.activate(ctx, s); err != nil {
		return snap, err
	}
	return snap, snap.mount()
}

// activate makes the snapshot's device appear, and has it go again when the snapshot is closed and Source.Close is called.
// Classic snapshots are active as long as their origin is, and so is one that somebody else has activated.
func (snap *Snapshot) activate(ctx context.Context, s *Source) error {
	v := snap.volume
	s.idle.drop(v.UUID)
	if !v.Active {
		if err := s.commands.change(ctx, activation(v)); err != nil {
			return fmt.Errorf("activate snapshot %s: %w", v.Path(), err)
		}
		s.seen.update(v.UUID, func(v *Volume) { v.Active = true })
	}
	if v.Thin() && (!v.Active || strings.HasPrefix(v.Name, Prefix)) {
		snap.release = append(snap.release, func() error { s.idle.add(v); return nil })
	}
	return nil
}

// mount opens the snapshot's device and mounts it.
func (snap *Snapshot) mount() error {
	v := snap.volume
	start, err := readDirect(v.Device, v.UUID, "", startSize)
	if err != nil {
		return lost(err)
	}
	if snap.Mark.Content != 0 && fingerprint(start) != snap.Mark.Content {
		return fmt.Errorf("snapshot %s: %w: it was mounted for writing", v.Path(), snapshot.ErrAltered)
	}
	if snap.Device, err = openDevice(v.Device, v.UUID, "", 0); err != nil {
		return err
	}
	snap.release = append(snap.release, snap.Device.Close)
	if snap.Size, err = sizeOf(snap.Device); err != nil {
		return err
	}
	root, mounted, err := mountRoot(v.Device, start)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", v.Path(), err)
	}
	snap.Root = root
	snap.release = append(snap.release, mounted.Close)
	return nil
}

// lost says that a snapshot which gives nothing but errors is gone: one that overflows does, before LVM shows it.
func lost(err error) error {
	if errors.Is(err, unix.EIO) {
		return fmt.Errorf("%w: %w", snapshot.ErrGone, err)
	}
	return err
}

// Close unmounts the snapshot; Source.Close deactivates it. Root must have been closed before. It may be called on nil.
func (snap *Snapshot) Close() error {
	if snap == nil {
		return nil
	}
	var errs []error
	for n := len(snap.release); n > 0; n-- {
		errs = append(errs, snap.release[n-1]())
	}
	snap.release = nil
	return errors.Join(errs...)
}

// Lost tells that a snapshot which was open has overflowed or gone: reading from it fails.
func (s *Source) Lost(ctx context.Context, snap *Snapshot) bool {
	all, err := s.now(ctx)
	if err != nil {
		return false
	}
	v, ok := byUUID(all, snap.volume.UUID)
	return !ok || v.Invalid
}
