package apply

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
)

// folders makes directories of so many small files.
func folders(t *testing.T, dirs, files int) string {
	t.Helper()
	top := t.TempDir()
	for d := range dirs {
		dir := filepath.Join(top, fmt.Sprint("d", d))
		check(t, os.Mkdir(dir, 0o700))
		for i := range files {
			check(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), fmt.Append(nil, d, i), 0o600))
		}
	}
	return top
}

// batchCopy is a first copy into a new store.
func batchCopy(t *testing.T, source string) *firstCopy {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store")
	check(t, Init(path))
	s, err := Open(path)
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	return &firstCopy{next: openRoot(t, source), mirror: s.tree, keys: inoKeys, marks: catalogMarks{s.conn, &s.guard, s}}
}

// A batch that is closed in the middle of a directory, when no directory is complete, loses nothing: each file that was copied has its
// checksum in the end, and is read back where that is asked for.
func TestBatchInTheMiddleOfADirectory(t *testing.T) {
	const files = 50
	f := batchCopy(t, folders(t, 1, files))
	f.workers, f.built.paths = 1, true
	copied, read := 0, 0
	f.step = func(name string) error {
		switch name {
		case "read back":
			read++
		case "copy":
			if copied++; copied%20 == 0 {
				return f.markBatch()
			}
		}
		return nil
	}
	check(t, f.run(context.Background()))
	sums := 0
	check(t, f.marks.(catalogMarks).s.query(`SELECT count(*) FROM sums`, func(row *sqlite.Stmt) error { sums = row.ColumnInt(0); return nil }))
	if sums != files || read != files {
		t.Errorf("%d files have checksums, %d were read back, want %d", sums, read, files)
	}
}

// While a batch waits for the disk, which may take minutes, the workers copy so many files and no more: what is noted of each is in memory.
func TestCopyWaitsForBatches(t *testing.T) {
	const dirs, perDir, most, workers = 30, 5, 40, 4
	f := batchCopy(t, folders(t, dirs, perDir))
	f.workers, f.mostWaiting, f.batchFiles, f.batchBytes, f.batchTime = workers, most, 1, 1<<40, 1<<40
	highest := int64(0)
	waiting := func() int64 {
		f.mu.Lock()
		defer f.mu.Unlock()
		n := f.counts.Files.Load() - f.taken
		highest = max(highest, n)
		return n
	}
	f.step = func(name string) error {
		switch name {
		case "copy":
			waiting()
		case "sync":
			for waiting() < most && f.counts.Files.Load() < dirs*perDir { // they are sure to get there
				time.Sleep(time.Millisecond)
			}
		}
		return nil
	}
	check(t, f.run(context.Background()))
	if highest < most || highest > most+workers*perDir {
		t.Errorf("%d files were waiting for a batch, want %d and what %d workers had in hand", highest, most, workers)
	}
}
