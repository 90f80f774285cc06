package apply

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
	var g faultGuard
	for range 2 {
		if err := g.do(func() error { page[0] = 1; return nil }); !errors.Is(err, ErrFault) {
			t.Errorf("a fault: %v", err)
		}
	}
	if err := g.do(func() error { t.Error("used again after a fault"); return nil }); !errors.Is(err, ErrFault) {
		t.Errorf("after a fault: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a mistake of ours was taken for a full disk")
		}
	}()
	var none *BadFile
	new(faultGuard).do(func() error { return none.Err })
}
