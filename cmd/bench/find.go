package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/btrfs"
)

// finder is the comparison of two snapshots and nothing else: no snapshot is taken, no store is there. It runs in a
// process of its own, so that its memory can be told.
type finder struct{ *bench }

func (f *finder) name() string { return (&snapdiff{}).name() }

func (f *finder) find(base, next string) *exec.Cmd {
	return self("compare", [2]string{base, next})
}

// runCompare is that process.
func runCompare(text string) error {
	var paths [2]string
	if err := json.Unmarshal([]byte(text), &paths); err != nil {
		return err
	}
	basePath, nextPath := paths[0], paths[1]
	info, err := btrfs.Info(basePath)
	if err != nil {
		return err
	}
	base, err := beneath.Open(basePath)
	if err != nil {
		return err
	}
	defer base.Close()
	next, err := beneath.Open(nextPath)
	if err != nil {
		return err
	}
	defer next.Close()
	set, err := btrfsfeed.Diff(context.Background(), base, next, info.OTransid, diff.Options{})
	if err != nil {
		return err
	}
	fmt.Printf("%d names went, %d came, %d inodes\n", set.Unlinked.Len(), set.Linked.Len(), set.Inodes.Len())
	return nil
}

// runFind measures finding the changes alone, against the stream without data.
func (b *bench) runFind() error {
	for n := 1; n <= 2*b.repeat; n++ {
		next, err := b.round(n)
		if err != nil {
			return err
		}
		temp := "warm"
		if next.cold {
			temp = "cold"
		}
		if err := b.findRow(temp, next.cold, b.rounds[n-1].snapshot, next.snapshot); err != nil {
			return err
		}
	}
	last, idle := b.rounds[2*b.repeat].snapshot, filepath.Join(b.snapshots, "idle")
	if err := command("btrfs", "subvolume", "snapshot", "-r", b.source, idle); err != nil {
		return err
	}
	if err := b.findRow("nothing changed", false, last, idle); err != nil {
		return err
	}
	b.writeTable(os.Stdout)
	return nil
}

func (b *bench) findRow(temp string, cold bool, base, next string) error {
	for _, c := range []interface {
		name() string
		find(base, next string) *exec.Cmd
	}{&finder{b}, &btrfsSend{bench: b}} {
		if err := b.time("finding the changes, "+temp, c.name(), c.find(base, next), cold, base, next); err != nil {
			return err
		}
	}
	return nil
}
