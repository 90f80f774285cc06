package apply_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
)

// capturedStore unpacks a store that real runs made, and gives its place and its catalog.
func capturedStore(t testing.TB, archive string) (store string, catalog []byte) {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-C", dir, "-xzf", filepath.Join("testdata", archive), "store").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	store = filepath.Join(dir, "store")
	catalog, err := os.ReadFile(filepath.Join(store, "catalog.db"))
	err = errors.Join(err, os.WriteFile(filepath.Join(store, "lock"), nil, 0o600)) // one archive lacks it
	if err != nil {
		t.Fatal(err)
	}
	return store, catalog
}

// FuzzDamagedCatalog: bytes of a real catalog that are changed, and an end that is missing, lead to an error that says it or to a store that can be
// looked at, never to a panic, a hang or gigabytes of memory.
func FuzzDamagedCatalog(f *testing.F) {
	const most = 512 << 20
	var stores []string
	var catalogs [][]byte
	for _, archive := range []string{"store.tar.gz", "format1.tar.gz"} {
		store, catalog := capturedStore(f, archive)
		stores, catalogs = append(stores, store), append(catalogs, catalog)
		s, err := apply.Open(store) // a catalog of format 1 shows its past once it is upgraded
		if err != nil {
			f.Fatal(err)
		}
		if err := s.Close(); err != nil {
			f.Fatal(err)
		}
		if n := lookAround(store); n < 10 {
			f.Fatalf("%s shows %d things", archive, n)
		}
	}
	const page = 4096
	for at := 0; at < len(catalogs[0]); at += 4 * page { // fuzzing finds the others
		f.Add(uint8(0), uint32(at), []byte{byte(1 + at/page), 0xff}, uint32(0))            // the kind of the page
		f.Add(uint8(0), uint32(at+page-40), []byte("\xff\x7f\x80\x00\xff\xff"), uint32(0)) // what its first row has
		f.Add(uint8(1), uint32(at+3), []byte{0x7f, 0xff, 0x00, 0x00}, uint32(0))           // how many rows, and where
	}
	for short := uint32(1); short < 20*page; short = 3*short + 1 {
		f.Add(uint8(short), uint32(0), []byte{}, short)
	}
	f.Add(uint8(0), uint32(18), []byte{2}, uint32(5000))
	f.Add(uint8(0), uint32(28), []byte{0xff, 0xff, 0xff, 0xff}, uint32(0)) // pages of the whole file
	f.Fuzz(func(t *testing.T, which uint8, at uint32, change []byte, short uint32) {
		store, data := stores[int(which)%len(stores)], bytes.Clone(catalogs[int(which)%len(stores)])
		copy(data[int(at)%len(data):], change)
		data = data[:len(data)-int(short)%len(data)]
		path := filepath.Join(store, "catalog.db")
		for _, left := range []string{"-wal", "-shm", "-journal"} {
			if err := os.Remove(path + left); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		hangs := time.AfterFunc(3*time.Minute, func() { panic("it hangs") })
		defer hangs.Stop()
		before := resetPeak(t)
		damageIsSaid(t, store)
		lookAround(store)
		if grown := peak(t) - before; grown > most {
			t.Errorf("it took %d MB", grown>>20)
		}
	})
}

// damageIsSaid opens a store in each way. Whatever goes wrong is said to be damage, or the work of a newer program.
func damageIsSaid(t *testing.T, store string) {
	t.Helper()
	_, points := apply.RestorePoints(store, "")
	errs := map[string]error{"restore points": points}
	s, err := apply.OpenReadOnly(store)
	if errs["for reading"] = err; err == nil {
		_, errs["runs"] = s.Runs()
		_, errs["pending"] = s.Pending()
		_, errs["meta"] = s.Meta("source")
		_, _, errs["last"] = s.Last()
		errs["closing"] = s.Close()
	}
	if s, err = apply.Open(store); err == nil {
		_, _ = s.CheckCatalog()
		err = s.Close() // writes
	}
	errs["for writing"] = err
	for what, err := range errs {
		if err != nil && !apply.IsDamage(err) && !errors.Is(err, apply.ErrFormat) {
			t.Errorf("%s: it is not said that the catalog is damaged: %v", what, err)
		}
	}
}

var errEnough = errors.New("enough")

// lookAround looks at all restore points of a store, and counts what it sees.
func lookAround(store string) (seen int) {
	const enough = 2000 // a directory may have come to lie below itself
	points, _ := apply.RestorePoints(store, "")
	for _, p := range points[:min(len(points), 9)] {
		v, err := apply.OpenView(store, "", p.Run)
		if err != nil {
			continue
		}
		for dirs := []apply.ViewFile{v.Root()}; len(dirs) > 0 && seen < 9*enough; dirs = dirs[1:] {
			files, _ := v.ReadDir(dirs[0])
			for _, f := range files {
				seen++
				_, _ = v.Lstat(f)
				_, _ = v.Xattrs(f)
				_, _ = v.Readlink(f)
				switch f.Type {
				case unix.S_IFDIR:
					dirs = append(dirs, f)
				case unix.S_IFREG:
					readEnds(v, f)
				}
			}
		}
		v.Close()
	}
	found := 0
	_ = apply.Find(context.Background(), store, "", "*", apply.FindOptions{}, func(apply.Found) error {
		if found++; found > enough {
			return errEnough
		}
		return nil
	})
	for _, path := range []string{"d/one", "d/e/two", "moved/deep/a"} {
		_, _ = apply.Log(store, "", path)
	}
	return seen
}

// readEnds reads a little of a file, wherever it says to have something.
func readEnds(v *apply.View, f apply.ViewFile) {
	file, err := v.Open(f)
	if err != nil {
		return
	}
	defer file.Close()
	buf := make([]byte, 4096)
	for _, off := range []int64{0, file.Size() / 2, file.Size() - 1} {
		_, _ = file.ReadAt(buf, max(off, 0))
	}
}

// resetPeak begins to measure how much memory this process takes at most, and gives how much it takes now. See proc(5) on clear_refs.
func resetPeak(t *testing.T) int64 {
	t.Helper()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	return peak(t)
}

// peak is the most that this process took, in bytes.
func peak(t *testing.T) (kib int64) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscanf(line, "%d kB", &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
