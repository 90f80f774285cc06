package inodefeed

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// BenchmarkMail compares folders of so many messages, one of which is new, by their blocks and by reading them whole. names/folder are
// those that either way reads of both snapshots, once; whole, a run read them twice.
func BenchmarkMail(b *testing.B) {
	for _, kind := range kinds {
		for _, size := range []int{1000, 10_000} {
			v := newVolume(b, kind, volumeSize[kind])
			must(b, os.WriteFile(filepath.Join(v.dir, "message"), nil, 0o600))
			var dirs []string
			for i := range 20 {
				dirs = append(dirs, filepath.Join(v.dir, fmt.Sprint(i)))
				must(b, os.Mkdir(dirs[i], 0o700))
			}
			for i := range size { // in turn, as mail comes, and with a file beside it
				for d, dir := range dirs {
					if i%3000 == 0 {
						must(b, os.WriteFile(filepath.Join(dir, "message"+fmt.Sprint(i)), nil, 0o600))
					}
					must(b, os.Link(filepath.Join(dir, "message"+fmt.Sprint(i/3000*3000)), filepath.Join(dir, fmt.Sprintf("17%08d.M%06dP%d.host,S=1234:2,S", i, i*7919%1_000_000, d))))
				}
			}
			base := v.snapshot()
			for _, dir := range dirs {
				must(b, os.WriteFile(filepath.Join(dir, "1800000000.M123456P1.host,S=1234"), nil, 0o600))
			}
			next := v.snapshot()
			blocks, links := changed(b, base, next), index(b, base)
			nums := make([]uint64, len(dirs))
			for i, dir := range dirs {
				var st unix.Stat_t
				must(b, unix.Stat(dir, &st))
				nums[i] = st.Ino
			}
			newPair := func() *feed {
				f, err := newFeed(base.Side, next.Side, blocks)
				must(b, err)
				_, _, err = diff.Linked(b.Context(), f.base, f.next, links, nil, nil)
				must(b, err)
				return f
			}
			b.Run(fmt.Sprintf("%s/%d/blocks", kind, size), func(b *testing.B) {
				for b.Loop() {
					f := newPair()
					for _, num := range nums {
						u, err := f.narrow(num)
						must(b, err)
						if len(u.came) != 1 || len(u.went) != 0 {
							b.Fatalf("%v", u)
						}
					}
				}
				f, names := newPair(), 0
				for _, num := range nums {
					names += namesRead(b, f, num)
				}
				b.ReportMetric(float64(names)/float64(len(nums)), "names/folder")
			})
			b.Run(fmt.Sprintf("%s/%d/whole", kind, size), func(b *testing.B) {
				names := 0
				for b.Loop() {
					f := newPair()
					for _, num := range nums {
						for _, tree := range []*tree{f.base, f.next} {
							must(b, tree.Entries(num, func(diff.Entry) error { names++; return nil }))
						}
					}
				}
				b.ReportMetric(float64(names)/float64(b.N*len(nums)), "names/folder")
			})
		}
	}
}

// namesRead counts the names that are read to compare a directory by its blocks.
func namesRead(t testing.TB, f *feed, num uint64) (count int) {
	t.Helper()
	b, err := f.base.directory(num)
	must(t, err)
	n, err := f.next.directory(num)
	must(t, err)
	places := unlikePlaces(b.extents, n.extents, f.changed, n.block)
	must(t, f.base.blocks.open(b, places))
	must(t, f.next.blocks.open(n, places))
	for _, at := range places {
		b, err := f.base.blocks.read(at)
		must(t, err)
		n, err := f.next.blocks.read(at)
		must(t, err)
		if bytes.Equal(b, n) {
			continue
		}
		_, err = f.base.blocks.names(at, b, func(diff.Entry) { count++ })
		must(t, err)
		_, err = f.next.blocks.names(at, n, func(diff.Entry) { count++ })
		must(t, err)
	}
	return count
}
