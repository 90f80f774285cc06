package apply

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
)

// readBeside opens the store for reading and wants a setting in it.
func readBeside(t *testing.T, store, want string, opts ...Option) {
	t.Helper()
	s, err := OpenReadOnly(store, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Meta("k"); err != nil || got != want {
		t.Errorf("read %q %v, want %q", got, err, want)
	}
	if err := s.SetMeta("k", "other"); err == nil {
		t.Error("a store that is open for reading was changed")
	}
	check(t, s.Close())
}

func TestReadOnlyBesideAWriterAndOnReadOnlyMedia(t *testing.T) {
	applytest.NeedRoot(t)
	disk := t.TempDir()
	check(t, unix.Mount("store", disk, "tmpfs", 0, ""))
	t.Cleanup(func() { check(t, unix.Unmount(disk, 0)) })
	store := filepath.Join(disk, "store")
	if _, err := OpenReadOnly(store); !errors.Is(err, ErrNotStore) {
		t.Errorf("nothing is a store: %v", err)
	}
	check(t, Init(store))
	writer, err := Open(store)
	check(t, err)
	for _, value := range []string{"1", "2"} {
		check(t, writer.SetMeta("k", value))
		readBeside(t, store, value)
	}
	// A container may see the disk through a mount of its own that cannot be written, while a run is on.
	view := t.TempDir()
	check(t, unix.Mount(disk, view, "", unix.MS_BIND, ""))
	t.Cleanup(func() { check(t, unix.Unmount(view, 0)) })
	check(t, unix.Mount("", view, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	readBeside(t, filepath.Join(view, "store"), "2")
	check(t, writer.SetMeta("k", "3"))
	readBeside(t, filepath.Join(view, "store"), "3")
	check(t, writer.SetMeta("k", "2"))
	wal, err := os.ReadFile(filepath.Join(store, "catalog.db-wal"))
	check(t, err)
	check(t, writer.Close())
	readOnly := func(flag uintptr) { check(t, unix.Mount("", disk, "", unix.MS_REMOUNT|flag, "")) }
	readOnly(unix.MS_RDONLY)
	readBeside(t, store, "2")
	// A run that was killed leaves its WAL; without the shared memory it cannot be read there, and is not overlooked.
	readOnly(0)
	check(t, os.WriteFile(filepath.Join(store, "catalog.db-wal"), wal, 0o600))
	readOnly(unix.MS_RDONLY)
	if _, err := OpenReadOnly(store); err == nil || !strings.Contains(err.Error(), "writable once") {
		t.Errorf("a catalog was read without its WAL: %v", err)
	}
	readOnly(0)
	readBeside(t, store, "2")
}

func TestCatalogElsewhere(t *testing.T) {
	dir := t.TempDir()
	store, catalog := filepath.Join(dir, "store"), filepath.Join(dir, "local/mail.db")
	check(t, Init(store, CatalogAt(catalog)))
	write := func(opts ...Option) {
		t.Helper()
		s, err := Open(store, opts...)
		check(t, err)
		check(t, errors.Join(s.SetMeta("k", "v"), s.Close()))
	}
	write() // the store remembers the place
	readBeside(t, store, "v")
	if _, err := os.Lstat(filepath.Join(store, "catalog.db")); err == nil {
		t.Error("there is a catalog in the store too")
	}
	moved := filepath.Join(dir, "moved.db")
	check(t, os.Rename(catalog, moved))
	if _, err := Open(store); err == nil || !strings.Contains(err.Error(), catalog) {
		t.Errorf("a catalog that is gone: %v", err)
	}
	readBeside(t, store, "v", CatalogAt(moved))
	write(CatalogAt(moved))
	write() // the new place is remembered

	other := filepath.Join(dir, "other")
	check(t, Init(other, CatalogAt(catalog)))
	if _, err := Open(store, CatalogAt(catalog)); err == nil || !strings.Contains(err.Error(), "another store") {
		t.Errorf("the catalog of another store: %v", err)
	}
	if err := Init(filepath.Join(dir, "third"), CatalogAt(catalog)); !errors.Is(err, os.ErrExist) {
		t.Errorf("a catalog that is there already: %v", err)
	}
}

func TestInitCompletesWhatWasCutOffAndAdopts(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	check(t, os.MkdirAll(filepath.Join(store, "tree"), 0o700))
	check(t, os.WriteFile(filepath.Join(store, "tree/file"), []byte("kept"), 0o600))
	if err := Init(store); !errors.Is(err, ErrNotEmpty) || !strings.Contains(err.Error(), "file") {
		t.Errorf("a copy that lies there already: %v", err)
	}
	check(t, os.Mkdir(filepath.Join(store, "history"), 0o700))
	check(t, os.WriteFile(filepath.Join(store, "README"), nil, 0o600))
	check(t, Init(store, Adopt()))
	s, err := Open(store)
	check(t, err)
	check(t, s.Close())
	if data, err := os.ReadFile(filepath.Join(store, "tree/file")); string(data) != "kept" {
		t.Errorf("the adopted copy was touched: %q %v", data, err)
	}
	if err := Init(store); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("a store that is there already: %v", err)
	}
}
