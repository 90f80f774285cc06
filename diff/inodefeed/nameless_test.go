package inodefeed

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
)

// TestNameless: a change to what the link index has no name of is no native comparison. Where something is excluded or was left out as too
// deep, names may lack.
func TestNameless(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind])
			a.Apply(t, v.dir, a.Mkdir("d"), full("d/f"), full("g"), a.Mkdir("d/e"), a.Mkdir("gone"), full("open"))
			file, err := os.OpenFile(filepath.Join(v.dir, "open"), os.O_WRONLY, 0)
			must(t, err)
			defer file.Close()
			dir, err := os.Open(filepath.Join(v.dir, "gone"))
			must(t, err)
			defer dir.Close()
			base := v.snapshot()
			a.Apply(t, v.dir, a.Append("d/f", 5, 2), a.Create("d/e/new", 5, 2), a.Remove("open"), a.Remove("gone"))
			_, err = file.WriteString("unseen")
			must(t, err)
			next := v.snapshot()
			blocks := changed(t, base, next)
			if set := compare(t, base, next, diff.Options{}); set.Inodes.Len() == 0 {
				t.Fatal("nothing changed")
			}
			for _, name := range []string{"d/f", "d/e"} {
				links := index(t, base)
				st, err := base.Root.Lstat(name)
				must(t, err)
				delete(links, st.Ino)
				_, _, err = Diff(t.Context(), base.Side, next.Side, blocks, links, diff.Options{})
				if !errors.Is(err, diff.ErrNotNative) {
					t.Errorf("without the name of %s: %v", name, err)
				}
			}
			links := index(t, base)
			st, err := base.Root.Lstat("d/f")
			must(t, err)
			delete(links, st.Ino)
			for _, opts := range []diff.Options{{Exclude: diff.MustExclude("d/f")}, {LeftOut: true}} {
				_, _, err = Diff(t.Context(), base.Side, next.Side, blocks, links, opts)
				must(t, err)
			}
		})
	}
}

// TestOwnFiles: nobody misses a name of the files that a filesystem keeps for itself. What its own tools say of its superblock is the truth.
func TestOwnFiles(t *testing.T) {
	a.NeedRoot(t)
	const size = 768 << 20
	for _, c := range []struct {
		make  [][]string
		say   []string
		words string // of say, before a number
		own   func(filesystem) []uint64
	}{
		{
			[][]string{{"mkfs.ext4", "-q", "-F", "-O", "orphan_file,quota,project", "-E", "quotatype=usrquota:grpquota:prjquota"}},
			[]string{"dumpe2fs", "-h"}, `(?:Journal|quota|file) inode:\s+`,
			func(fs filesystem) (own []uint64) {
				for _, n := range fs.(*ext4).super.own {
					own = append(own, uint64(n))
				}
				return own
			},
		},
		{
			[][]string{{"mkfs.xfs", "-q", "-f"}, {"xfs_db", "-x", "-c", "sb 0", "-c", "write uquotino 133", "-c", "write gquotino 134", "-c", "write pquotino 135"}},
			[]string{"xfs_db", "-c", "sb 0", "-c", "p rbmino rsumino uquotino gquotino pquotino"}, `ino = `,
			func(fs filesystem) []uint64 { return fs.(*xfs).super.own[:] },
		},
	} {
		image := filepath.Join(t.TempDir(), "image")
		must(t, os.WriteFile(image, nil, 0o600))
		must(t, os.Truncate(image, size))
		for _, argv := range c.make {
			command(t, argv[0], append(argv[1:], image)...)
		}
		said, err := exec.Command(c.say[0], append(c.say[1:], image)...).Output()
		must(t, err)
		device, err := os.Open(image)
		must(t, err)
		defer device.Close()
		fs, err := open(Side{Device: device, Size: size})
		must(t, err)
		var want []uint64
		for _, found := range regexp.MustCompile(c.words+`(\d+)\n`).FindAllSubmatch(said, -1) {
			num, err := strconv.ParseUint(string(found[1]), 10, 64)
			must(t, err)
			want = append(want, num)
			if i, ok, err := lookUp(fs, num); err != nil || ok && i.Nlink != 0 {
				t.Errorf("%s: inode %d has %d links (%v)", c.say[0], num, i.Nlink, err)
			}
		}
		if got := c.own(fs); !slices.Equal(got, want) || len(want) != 5 {
			t.Errorf("%v, and %s says %v:\n%s", got, c.say[0], want, said)
		}
		if i, ok, err := lookUp(fs, fs.root()); err != nil || !ok || i.Nlink == 0 {
			t.Errorf("the top directory: %+v, %t, %v", i, ok, err)
		}
	}
}
