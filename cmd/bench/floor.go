package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"snapdiff/cmd/bench/floor"
	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/btrfs"
)

// bare is the floor: the bare system calls of a run, made by this program in a process of its own. A run of it takes a snapshot,
// reads what is newer in the filesystem's tree and brings the change, which it is told, into the copy.
type bare struct {
	*bench
	place string
}

func (f *bare) name() string   { return "bare system calls" }
func (f *bare) target() string { return f.mirror }

func (f *bare) prepare(target string) error {
	f.place = target
	return floor.Prepare(target)
}

// floorJob is what the process is told.
type floorJob struct {
	Do               string // copy, find, change, plan
	Base, Next       string // snapshots
	Plan             string // file
	Last             uint64 // inode
	Source, Snapshot string // a snapshot to be taken
	Target           string
	Workers          int
}

func (f *bare) job(j floorJob) *exec.Cmd {
	j.Target, j.Workers = f.place, f.workers
	return self("floor", j)
}

func (f *bare) first() *exec.Cmd { return f.job(floorJob{Do: "copy", Next: f.rounds[0].snapshot}) }

func (f *bare) find(base, next string) *exec.Cmd {
	last, err := lastInode(next)
	if err != nil {
		say("floor: %v", err)
		return nil
	}
	return f.job(floorJob{Do: "find", Base: base, Next: next, Last: last})
}

func (f *bare) incremental(base, next string) *exec.Cmd {
	last, err := lastInode(next)
	plan := filepath.Join(f.work, "plan")
	if err == nil {
		err = self("floor", floorJob{Do: "plan", Base: base, Next: next, Plan: plan}).Run()
	}
	if err != nil {
		say("floor: %v", err)
		return nil
	}
	return f.job(floorJob{Do: "change", Base: base, Next: next, Plan: plan, Last: last, Source: f.source,
		Snapshot: fmt.Sprintf("%sfloor-%d", btrfs.Prefix, time.Now().UnixNano())})
}

func (f *bare) idle(string) *exec.Cmd { return nil }
func (f *bare) copyOf(string) string  { return filepath.Join(f.place, "tree") }

// lastInode is about the highest number of an inode: that of one made now would be higher.
func lastInode(snapshot string) (uint64, error) {
	d, err := os.Open(snapshot)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	last := uint64(1) << 62
	cursor := btrfs.NewCursor(int(d.Fd()), nil)
	for last > btrfs.FirstInode {
		key := btrfs.Of(last/2, 0, 255)
		key.MaxObjectID = 1 << 62
		cursor.Seek(key, 1)
		_, found, err := cursor.Peek()
		if found || err != nil {
			return last, err
		}
		last /= 2
	}
	return last, nil
}

// runFloor is the process. What its parts took is on standard output, see figuresOf.
func runFloor(text string) error {
	var j floorJob
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	switch j.Do {
	case "plan":
		return writePlan(j)
	case "copy":
		return floor.Copy(j.Next, j.Target, j.Workers)
	case "find":
		return floor.Search(j.Base, j.Next, j.Last, j.Workers)
	}
	for _, part := range []struct {
		name string
		do   func() error
	}{
		{"snapshot", func() error { _, err := btrfs.Create(j.Source, filepath.Dir(j.Next), j.Snapshot); return err }},
		{"search", func() error { return floor.Search(j.Base, j.Next, j.Last, j.Workers) }},
		{"the change alone", func() error { return floor.Change(j.Plan, j.Next, j.Target, j.Workers) }},
	} {
		start := time.Now()
		if err := part.do(); err != nil {
			return err
		}
		fmt.Printf("part %.4f %s\n", time.Since(start).Seconds(), part.name)
	}
	return nil
}

// writePlan works out what the change is.
func writePlan(j floorJob) error {
	info, err := btrfs.Info(j.Base)
	if err != nil {
		return err
	}
	base, err := beneath.Open(j.Base)
	if err != nil {
		return err
	}
	defer base.Close()
	next, err := beneath.Open(j.Next)
	if err != nil {
		return err
	}
	defer next.Close()
	exclude, err := diff.ParseExclude([]string{"/.snapdiff"})
	if err != nil {
		return err
	}
	set, err := btrfsfeed.Diff(context.Background(), base, next, info.OTransid, diff.Options{Exclude: exclude})
	if err != nil {
		return err
	}
	out, err := os.Create(j.Plan)
	if err != nil {
		return err
	}
	defer out.Close()
	w := bufio.NewWriter(out)
	if err := floor.Plan(set, w); err != nil {
		return err
	}
	return w.Flush()
}
