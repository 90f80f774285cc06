package job

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestGuardFaults(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "mapped"))
	if err == nil {
		err = f.Truncate(4096)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	if err := f.Truncate(0); err != nil { // to write to the page gives SIGBUS now
		t.Fatal(err)
	}
	write := func() (err error) {
		defer GuardFaults("/store", &err)()
		page[0] = 1
		return nil
	}
	var full *NoSpace
	if err := write(); !errors.As(err, &full) || full.Store != "/store" {
		t.Errorf("a fault: %v, want no room", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a mistake of ours was taken for a full disk")
		}
	}()
	var none *NoSpace
	func() (err error) {
		defer GuardFaults("/store", &err)()
		return none.Err
	}()
}
