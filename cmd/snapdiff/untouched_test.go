package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// identities are inode number and ctime of everything in the mirror: what restic, borg and the like go by.
func (b *jobBench) identities() map[string]unix.Stat_t {
	b.t.Helper()
	top, all := filepath.Join(b.store, "tree"), map[string]unix.Stat_t{}
	err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		rel, _ := filepath.Rel(top, path)
		all[rel] = st
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

// TestOnlyWhatChangedIsTouched: files beside changed ones, below a directory that moved, whose extents alone were made anew, and those
// that a full comparison finds equal keep inode and ctime in the mirror; so do directories in which no name came, went or was replaced (a
// new version is renamed over the old one).
func TestOnlyWhatChangedIsTouched(t *testing.T) {
	b := newJobBench(t, "")
	b.write("d/a", "d/b", "d/link", "move/below/f", "move/f", "still/deep/f", "still/g", "rewritten", "read")
	b.sh("cd $S; ln d/link still/link; head -c 200000 /dev/urandom > blob; cp --reflink=never blob twin; ln -s x still/symlink; mkfifo still/fifo")
	b.snapdiff(0, "init")
	b.silent("run")
	kept := func(what string, moved map[string]string, changed ...string) {
		t.Helper()
		before := b.identities()
		b.snapdiff(0, "run")
		b.equal()
		after := b.identities()
		for _, name := range changed {
			delete(before, name)
		}
		for name, was := range before {
			now := name
			for from, to := range moved {
				if rel, err := filepath.Rel(from, name); err == nil && filepath.IsLocal(rel) {
					now = filepath.Join(to, rel)
				}
			}
			if is := after[now]; is.Ino != was.Ino || is.Ctim != was.Ctim {
				t.Errorf("%s: %s was touched: inode %d, ctime %v; before %d, %v", what, now, is.Ino, is.Ctim, was.Ino, was.Ctim)
			}
		}
	}
	b.sh("cd $S; echo more >> d/a; cat read; touch -a read still/g; rm d/b; mv move moved")
	kept("changes", map[string]string{"move": "moved"}, ".", "d", "d/a", "d/b", "move")
	b.sh("cd $S; btrfs -q filesystem defragment -r -f . ; cp --reflink=always blob twin.new; rm twin.new; btrfs -q balance start --full-balance .")
	kept("defragmentation and balance", nil, ".")
	if err := os.Chmod(filepath.Join(b.source, "rewritten"), 0o600); err != nil {
		t.Fatal(err)
	}
	kept("mode", nil, "rewritten")
	b.sh("btrfs -q subvolume delete $S/.snapdiff/*; echo more >> $S/d/a")
	kept("full comparison", nil, "d", "d/a")
	if r := b.lastRun(); r.How != "full" {
		t.Errorf("the last run compared %s", r.How)
	}
}
