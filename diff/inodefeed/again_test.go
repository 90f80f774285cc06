package inodefeed

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
)

// TestNumberUsedAgain: a number that was given away again, under the same name and with the same contents and times, is another inode.
func TestNumberUsedAgain(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind])
			a.Apply(t, v.dir, a.Mkdir("e"), a.Create("f", 5000, 1), a.Utimes("f", 7, 7))
			m := newMirror(v)
			m.run()
			keys := Keys(m.base.Side)
			var st unix.Stat_t
			must(t, unix.Lstat(filepath.Join(v.dir, "f"), &st))
			before, err := keys("f", st.Ino)
			must(t, err)
			a.Apply(t, v.dir, a.Remove("f"))
			for i := 0; ; i++ {
				a.Apply(t, v.dir, a.Create("f", 5000, 1), a.Utimes("f", 7, 7))
				must(t, unix.Lstat(filepath.Join(v.dir, "f"), &st))
				if st.Ino == before.Ino {
					break
				}
				if i == 2000 {
					t.Fatal("the number was not given away again")
				}
				a.Apply(t, v.dir, a.Rename("f", fmt.Sprint("e/", i)))
			}
			set := m.run()
			after, err := Keys(m.base.Side)("f", before.Ino)
			must(t, err)
			if after.Gen == before.Gen {
				t.Fatalf("generations are equal: %+v", after)
			}
			in, ok := set.Inodes.Get(diff.Inode{Paths: []string{"f"}})
			if !ok || in.Key != after || in.What&diff.New == 0 || set.Gone.Len() != 1 {
				t.Errorf("the change set says of f: %+v, and %d inodes are gone", in, set.Gone.Len())
			}
		})
	}
}

// TestLazytime: with lazytime, times wait in memory for up to a day; what freezes the filesystem for the snapshot writes them out.
func TestLazytime(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind])
			a.Apply(t, v.dir, full("f"), full("g"), full("still"))
			must(t, unix.Mount("", v.dir, "", unix.MS_REMOUNT|unix.MS_LAZYTIME, ""))
			a.Apply(t, v.dir, a.Sync())
			m := newMirror(v)
			m.run()
			f, err := os.OpenFile(filepath.Join(v.dir, "f"), os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt([]byte("later"), 9000)
			must(t, err)
			must(t, unix.Fdatasync(int(f.Fd()))) // the times stay behind
			must(t, f.Close())
			a.Apply(t, v.dir, a.Write("g", 100, 5, 2))
			set := m.run()
			if set.Inodes.Len() != 2 {
				t.Errorf("%d inodes changed, want 2", set.Inodes.Len())
			}
			for _, name := range []string{"f", "g"} {
				if in, ok := set.Inodes.Get(diff.Inode{Paths: []string{name}}); !ok || in.What != diff.Data|diff.Meta {
					t.Errorf("of %s the change set says %+v", name, in)
				}
			}
		})
	}
}
