package lvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// stateDir holds a file for each thin pool: its lock, and the note that the pool's metadata snapshot is ours. It outlives
// reboots, as the metadata snapshot does.
var stateDir = "/var/lib/snapdiff/pools"

// ErrReserved says that somebody else holds the metadata snapshot of a thin pool, of which there can be only one.
var ErrReserved = errors.New("somebody else holds the metadata snapshot of the thin pool")

// pool is an active thin pool.
type pool struct {
	Volume
	metadata Volume
}

// dm is the name of the pool's own device, below the one that LVM shows.
func (p pool) dm() string { return p.Volume.dm() + "-tpool" }

// held gives the block at which the kernel keeps the pool's metadata snapshot; "" when there is none.
func (p pool) held() (string, error) {
	t, err := dmStatus(p.dm())
	if err != nil {
		return "", err
	}
	return parseHeld(t)
}

// parseHeld reads the status of a thin pool, Documentation/admin-guide/device-mapper/thin-provisioning.rst:
//
//	TRANSACTION USED/TOTAL USED/TOTAL HELD-ROOT|- ...
func parseHeld(t dmTarget) (string, error) {
	f := strings.Fields(t.params)
	if len(f) < 4 || t.kind != "thin-pool" {
		return "", fmt.Errorf("the thin pool is not well: its status is %q", t.kind+" "+t.params)
	}
	if f[3] == "-" {
		return "", nil
	}
	return f[3], nil
}

// delta gives the ranges that two thin volumes of the pool do not share. For that it reserves the pool's metadata snapshot
// and releases it on every way out. What is still reserved because a process of ours was killed is recognised by the note
// that it left, and released; what is not ours never is.
func (p pool) delta(ctx context.Context, left, right string) (blocks []Block, err error) {
	if err := checkDelta(ctx); err != nil { // before anything is reserved
		return nil, err
	}
	note, err := p.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer note.Close() // also unlocks
	if err := p.reserve(note); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.release(note)) }()
	out, err := ask(ctx, "thin_delta", "-m", "--thin1", left, "--thin2", right, p.metadata.Device)
	if err != nil {
		return nil, err
	}
	return parseDelta(bytes.NewReader(out))
}

// lock waits until no other process of ours uses the pool's metadata snapshot.
func (p pool) lock(ctx context.Context) (*os.File, error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the place for locks: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(stateDir, p.UUID), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	locked := make(chan error, 1)
	go func() {
		for {
			err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
			if !errors.Is(err, unix.EINTR) {
				locked <- err
				return
			}
		}
	}()
	select {
	case err = <-locked:
	case <-ctx.Done(): // the goroutine goes when the other process is done
		go func() { <-locked; f.Close() }()
		return nil, ctx.Err()
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock thin pool %s: %w", p.Path(), err)
	}
	return f, nil
}

// reserve makes the pool's metadata snapshot and notes that it is ours.
func (p pool) reserve(note *os.File) error {
	held, err := p.held()
	if err != nil {
		return err
	}
	ours := make([]byte, 64)
	n, _ := note.ReadAt(ours, 0)
	if held != "" {
		if held != string(ours[:n]) {
			return advise("when no other program reads it any more: "+p.freeing(), "%w %s (when none reads it any more, free it: %s)",
				ErrReserved, p.Path(), p.freeing())
		}
		if err := p.release(note); err != nil {
			return err
		}
	}
	if err := dmMessage(p.dm(), "reserve_metadata_snap"); err != nil {
		return p.readOnly(err)
	}
	if held, err = p.held(); err == nil && held == "" {
		err = fmt.Errorf("thin pool %s: its metadata snapshot went away at once", p.Path())
	}
	if err == nil {
		_, err = note.WriteAt([]byte(held), 0)
	}
	if err == nil {
		err = note.Sync()
	}
	if err != nil {
		return errors.Join(err, p.release(note))
	}
	return nil
}

// readOnly says so where the pool takes no changes any more: that is why a message to it failed.
func (p pool) readOnly(failed error) error {
	t, err := dmStatus(p.dm())
	if f := strings.Fields(t.params); err == nil && len(f) > 4 && f[4] == "ro" {
		return advise("lvextend --poolmetadatasize +SIZE "+p.Path()+"; if lvs -o lv_check_needed says so, lvconvert --repair "+p.Path(),
			"the thin pool %s has become read-only, %s blocks of its metadata are in use: %w", p.Path(), f[1], failed)
	}
	return failed
}

// freeing is the command that gives a metadata snapshot back which its owner left.
func (p pool) freeing() string { return "dmsetup message " + p.dm() + " 0 release_metadata_snap" }

// release gives the metadata snapshot back. The note goes first: without it a reservation is reported, but with a stale one
// somebody else's might be taken for ours.
func (p pool) release(note *os.File) error {
	if err := note.Truncate(0); err != nil {
		return err
	}
	return dmMessage(p.dm(), "release_metadata_snap")
}
