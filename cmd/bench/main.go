// Command bench compares snapdiff with rsync and with btrfs send in one run, on one machine, on the same data: a btrfs
// source in a loop file with many small files, of which few change, scattered over nearly all directories.
//
//	go run ./cmd/bench -files 1000000 -changes 10000 -mirror ext4
//
// Needs root, rsync and btrfs-progs. The result is a Markdown table on standard output; progress goes to standard error.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// options are the command line.
type options struct {
	files, changes, repeat int
	mirror                 string // filesystem of the store and of rsync's target
	dir                    string // where the loop files go
	binary                 string // snapdiff
	verify                 bool
	find                   bool // measure finding the changes alone
	past                   bool // measure restore points
	wide                   int  // names in one directory, for past
	seed                   uint64
	workers                int    // of the floor
	gate, busy             string // what measurements are run under, and what else loads the machine
	with                   string // contestants
	growth                 string // cases
	title                  string // of a growth case
	save, report           string // file for the figures, folder for what is made of them
	shape
}

func parse() (options, error) {
	var o options
	flag.IntVar(&o.files, "files", 100_000, "`number` of files in the source")
	flag.IntVar(&o.changes, "changes", 0, "`number` of changes between two runs (default 1 % of the files)")
	flag.IntVar(&o.repeat, "repeat", 1, "`times` that the incremental runs are measured; the median counts")
	flag.StringVar(&o.mirror, "mirror", "ext4", "`filesystem` of the mirror: ext4, xfs or btrfs")
	flag.StringVar(&o.dir, "dir", "/var/tmp", "`folder` for the loop files")
	flag.StringVar(&o.binary, "snapdiff", "./snapdiff", "the `binary` to measure")
	flag.BoolVar(&o.verify, "verify", false, "compare every mirror with its snapshot by rsync --checksum")
	flag.BoolVar(&o.find, "find", false, "measure finding the changes alone, against btrfs send --no-data: no mirror, no rsync")
	flag.BoolVar(&o.past, "past", false, "measure restore points: mount, restore, prune and log, beside the same from the mirror itself")
	flag.IntVar(&o.wide, "wide", 1_000_000, "with -past: how many `names` one directory has")
	flag.Uint64Var(&o.seed, "seed", 1, "`seed` of contents and changes")
	flag.IntVar(&o.workers, "workers", min(max(4, 2*runtime.NumCPU()), 16), "how many `workers` the floor has; the default is snapdiff's")
	flag.StringVar(&o.gate, "gate", "", "`command` that each measurement is run under: a lock, say, that keeps other work off the machine")
	flag.StringVar(&o.busy, "busy", "", "`command` that the making of files is run under (it is given a command that ends when the work is done)")
	flag.StringVar(&o.with, "with", "snapdiff,floor,rsync,send", "`contestants`, or all")
	flag.StringVar(&o.growth, "growth", "", "instead of the contestants, measure how snapdiff grows: `cases` 100k,1m,4m,wide,deep,mail1k,mail10k, or all")
	flag.StringVar(&o.save, "save", "", "add the figures to this `file`, for -report")
	flag.StringVar(&o.report, "report", "", "measure nothing: write tables and plots of the figures in -save into this `folder`")
	flag.IntVar(&o.bytes, "bytes", 6000, "how large a file is at most, in `bytes`")
	flag.IntVar(&o.perDir, "folder", filesPerDir, "how many `files` a folder has")
	flag.Parse()
	if o.changes == 0 {
		o.changes = max(o.files/100, 1)
	}
	switch {
	case flag.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case o.report != "":
		return o, nil
	case o.files < 100 || o.changes > o.files || o.repeat < 1:
		return o, errors.New("want at least 100 files, at most all of them changed, at least one repetition")
	case os.Geteuid() != 0:
		return o, errors.New("mounts filesystems: run as root")
	}
	var err error
	o.binary, err = filepath.Abs(o.binary)
	return o, err
}

func main() {
	if do, ok := task(os.Args); ok {
		if err := do(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	o, err := parse()
	if err == nil {
		err = apart(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run makes the source, measures each contestant and writes the table. Everything it made is removed at the end.
func run(o options) error {
	switch {
	case o.growth != "":
		return runGrowth(o)
	}
	return o.withSource(func(b *bench) error {
		switch {
		case o.find:
			return b.runFind()
		case o.past:
			return b.runPast()
		}
		list, err := b.contestants()
		if err != nil {
			return err
		}
		for _, c := range list {
			if err := b.measure(c); err != nil {
				return fmt.Errorf("%s: %w", c.name(), err)
			}
		}
		b.writeTable(os.Stdout)
		return nil
	})
}

// withSource makes the source and removes it, with everything else that was made, when do is done.
func (o options) withSource(do func(b *bench) error) (err error) {
	if err := enoughSpace(o); err != nil {
		return err
	}
	work, err := os.MkdirTemp(o.dir, "snapdiff-bench.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work) // after the unmounts below: deferred calls run last first
	size := o.files
	if o.past {
		size += o.wide / 8
	}
	src, err := newDisk(work, "source", "btrfs", size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.remove()) }()
	b := &bench{options: o, work: work, source: filepath.Join(src.mount, "data"), snapshots: src.mount}
	defer func() { err = errors.Join(b.hide(), err) }()
	o.append(saved{About: here()})
	if err := b.makeSource(); err != nil {
		return err
	}
	return do(b)
}
