package apply

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/snapshot"
)

// TestUnwritten: what ext4 and XFS allocated and never wrote is a hole in the mirror and in what is restored of it, though it looks like data
// as soon as the data before it was read.
func TestUnwritten(t *testing.T) {
	for _, kind := range []a.Kind{a.Ext4, a.XFS} {
		t.Run(string(kind), func(t *testing.T) {
			dir := a.Mount(t, kind)
			source, store := filepath.Join(dir, "source"), filepath.Join(dir, "store")
			check(t, os.Mkdir(source, 0o700))
			a.Apply(t, source, a.Create("f", 20000, 1), a.Prealloc("f", 20480, 81920), a.Write("f", 98304, 100, 1), a.Sync())
			f, err := os.Open(filepath.Join(source, "f"))
			check(t, err)
			defer f.Close()
			check(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
			check(t, Init(store))
			s, err := Open(store)
			check(t, err)
			defer s.Close()
			from := openRoot(t, source)
			_, err = s.FirstCopy(t.Context(), Copy{Next: from, Keys: inoKeys, Mark: snapshot.Mark{ID: "1"}}, Options{})
			check(t, err)
			a.Judge(t, source, filepath.Join(store, "tree"))

			f, err = os.OpenFile(filepath.Join(store, "tree/f"), os.O_RDWR, 0) // XFS does it by itself, around what is written to clones
			check(t, err)
			defer f.Close()
			check(t, errors.Join(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 20480, 77824), f.Sync()))
			_, err = io.Copy(io.Discard, f)
			check(t, err)
			st, err := os.Stat(filepath.Join(source, "f"))
			check(t, errors.Join(err, os.Chtimes(f.Name(), st.ModTime(), st.ModTime())))
			v, err := OpenView(store, "", 1)
			check(t, err)
			restored := filepath.Join(dir, "restored")
			_, err = v.Restore(t.Context(), "", restored)
			check(t, errors.Join(err, v.Close()))
			a.Judge(t, source, restored)
		})
	}
}
