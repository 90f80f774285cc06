package lvm

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrUnknown says that the volume manager cannot tell what changed between two snapshots.
var ErrUnknown = errors.New("the volume manager cannot tell which blocks changed")

// Changed gives what may differ between two open snapshots of one volume. ErrUnknown asks for another way of comparing.
//
// Thin: what both map to the same block of the pool is equal, since both hold on to that block and neither is written to. The
// pool's metadata is read as of a moment at which both exist.
//
// Classic: a snapshot reads a chunk from its own store when the store has it, and from the origin otherwise. Before a chunk
// of the origin is written, the kernel puts its old content into the store of every snapshot that does not have it yet, and
// lets the write go on only when that is on disk. So a chunk that neither store has at the moment at which the second of them
// was read is the origin's in both snapshots at the moment at which the first was: equal, whatever happened before and in
// whichever order the snapshots were taken. Stores only grow (merging ones are refused), thus what both lack is found lacking
// in one reading of each. Writes to a snapshot itself are in its store too. The chunks in either store are therefore all that
// can differ: those of the base since it was taken, and of the new snapshot the few since then.
func (s *Source) Changed(ctx context.Context, base, next *Snapshot) (Blocks, error) {
	left, right := base.volume, next.volume
	var ranges []Block
	var err error
	switch {
	case left.Thin() && right.Thin():
		ranges, err = s.thinChanged(ctx, left, right)
	case left.Classic() && right.Classic() && left.OriginUUID == right.OriginUUID:
		ranges, err = classicChanged(left, right)
	default:
		err = fmt.Errorf("%w: %s and %s are snapshots of different kinds", ErrUnknown, left.Path(), right.Path())
	}
	if err != nil {
		return nil, err
	}
	return NewBlocks(ranges, min(base.Size, next.Size)), nil
}

func (s *Source) thinChanged(ctx context.Context, left, right Volume) ([]Block, error) {
	if left.PoolUUID != right.PoolUUID {
		return nil, fmt.Errorf("%w: %s and %s lie in different thin pools", ErrUnknown, left.Path(), right.Path())
	}
	all, err := s.recent(ctx)
	if err != nil {
		return nil, err
	}
	p := pool{}
	var ok bool
	if p.Volume, ok = byUUID(all, left.PoolUUID); ok {
		p.metadata, ok = byUUID(all, p.MetadataUUID)
	}
	if !ok {
		return nil, fmt.Errorf("%w: the thin pool of %s is not there", ErrUnknown, left.Path())
	}
	blocks, err := p.delta(ctx, left.ThinID, right.ThinID)
	if errors.Is(err, ErrReserved) || errors.Is(err, ErrNoTool) || errors.Is(err, errWrongDelta) {
		err = fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return blocks, err
}

func classicChanged(left, right Volume) ([]Block, error) {
	var ranges []Block
	for _, v := range []Volume{left, right} {
		blocks, err := exceptionsOf(v)
		if errors.Is(err, ErrOverflowed) || errors.Is(err, errStore) {
			err = fmt.Errorf("%w: %s: %w", ErrUnknown, v.Path(), err)
		}
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, blocks...)
	}
	// The kernel knows of an overflow even where it could not note it in the store any more.
	for _, v := range []Volume{left, right} {
		t, err := dmStatus(v.dm())
		if err != nil {
			return nil, err
		}
		if err := checkSnapshot(t); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrUnknown, v.Path(), err)
		}
	}
	return ranges, nil
}

// checkSnapshot reads the status of a classic snapshot, Documentation/admin-guide/device-mapper/snapshot.rst:
//
//	USED/TOTAL METADATA | Invalid | Overflow | Merge failed | Unknown
func checkSnapshot(t dmTarget) error {
	if t.kind != "snapshot" {
		return fmt.Errorf("its device is of type %q", t.kind)
	}
	if t.params == "" || t.params[0] < '0' || t.params[0] > '9' {
		return fmt.Errorf("%w (%s)", ErrOverflowed, t.params)
	}
	return nil
}

// exceptionsOf reads the store of a classic snapshot, past the page cache: the kernel writes it past that too.
func exceptionsOf(v Volume) ([]Block, error) {
	f, err := openDevice(v.Device+"-cow", v.UUID, "-cow", unix.O_DIRECT)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := sizeOf(f)
	if err != nil {
		return nil, err
	}
	return readExceptions(f, size)
}
