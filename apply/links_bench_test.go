package apply

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
)

// BenchmarkLinkIndex makes first copies of 20,000 small files with no link index, as for btrfs, with one, as for LVM, and with one that has
// signatures, as for ZFS. What it costs is the difference: time, and bytes of the catalog for each file.
//
//	go test -run xxx -bench LinkIndex -benchtime 5x ./apply
func BenchmarkLinkIndex(b *testing.B) {
	const dirs, files = 200, 20_000
	top := applytest.Mount(b, applytest.Ext4)
	source := filepath.Join(top, "source")
	for i := range files {
		dir := filepath.Join(source, fmt.Sprintf("folder%03d", i%dirs))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("1700000%05d.M%06dP1234.host", i, i)), []byte("a message"), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	next, err := beneath.Open(source)
	if err != nil {
		b.Fatal(err)
	}
	defer next.Close()
	keys := func(_ string, ino uint64) (diff.Key, error) { return diff.Key{Ino: ino, Gen: 1234567}, nil }
	for _, c := range []struct {
		name              string
		links, signatures bool
	}{{"none", false, false}, {"names", true, false}, {"signatures", true, true}} {
		b.Run(c.name, func(b *testing.B) {
			store := filepath.Join(top, "store")
			for b.Loop() {
				b.StopTimer()
				if err := os.RemoveAll(store); err != nil {
					b.Fatal(err)
				}
				if err := Init(store); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				s, err := Open(store)
				if err == nil {
					_, err = s.FirstCopy(context.Background(), Copy{Next: next, Keys: keys, Links: c.links, Signatures: c.signatures,
						Mark: snapshot.Mark{Kind: "test", Source: "source", ID: "1"}}, Options{})
				}
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
			st, err := os.Stat(filepath.Join(store, "catalog.db"))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(st.Size())/files, "catalog-bytes/file")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/files, "us/file")
		})
	}
}
