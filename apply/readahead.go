package apply

import (
	"os"

	"golang.org/x/sys/unix"
)

// catalogAhead is how many bytes of a catalog are asked for when a store is opened for writing: a run looks up rows all over it, one
// after the other, each of which would wait for a cold disk.
const catalogAhead = 64 << 20

// readCatalogAhead is a hint: what is wrong with the catalog is told by who opens it.
func readCatalogAhead(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	_ = unix.Fadvise(int(f.Fd()), 0, catalogAhead, unix.FADV_WILLNEED)
}
