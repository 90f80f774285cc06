package fusefs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"snapdiff/apply"
	"snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
)

// BenchmarkCopyOut lists a mounted restore point of 20,000 files of 4 KB and one of 500 MB (find), copies it (cp -a) and reads the
// large file again (cat), each after the same from the mirror itself.
func BenchmarkCopyOut(b *testing.B) {
	applytest.NeedRoot(b)
	store, source, dir := filepath.Join(b.TempDir(), "store"), b.TempDir(), b.TempDir()
	script := `for d in $(seq 200); do mkdir d$d; for f in $(seq 100); do echo; done | split -l 1 - d$d/f; done; head -c 4096 /dev/urandom > x
		for f in d*/*; do cat x > $f; done; head -c 500000000 /dev/urandom > large`
	if out, err := exec.Command("sh", "-ec", "cd "+source+";"+script).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	firstCopy(b, store, source)
	view, err := apply.OpenView(store, "", 1)
	if err != nil {
		b.Fatal(err)
	}
	server, err := Mount(view, dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	spent := map[string]time.Duration{}
	for i := 0; b.Loop(); i++ {
		for name, tree := range map[string]string{"mirror": store + "/tree", "mount": dir} {
			to := filepath.Join(b.TempDir(), fmt.Sprint(name, i))
			for what, command := range map[string]string{"find": "find " + tree + " -newermt 2100-01-01", "cp": "cp -a " + tree + " " + to, "cat": "cat " + tree + "/large > /dev/null"} {
				begin := time.Now()
				if out, err := exec.Command("sh", "-ec", command).CombinedOutput(); err != nil {
					b.Fatalf("%v\n%s", err, out)
				}
				spent[name+"-"+what] += time.Since(begin)
			}
			if err := os.RemoveAll(to); err != nil {
				b.Fatal(err)
			}
		}
	}
	for what, time := range spent {
		b.ReportMetric(time.Seconds()/float64(b.N), what+"-s")
	}
	if err := errors.Join(server.Unmount(), view.Close()); err != nil {
		b.Fatal(err)
	}
}

// firstCopy makes a store with one restore point: a directory as it is.
func firstCopy(b *testing.B, store, source string) {
	b.Helper()
	if err := apply.Init(store); err != nil {
		b.Fatal(err)
	}
	s, err := apply.Open(store)
	if err != nil {
		b.Fatal(err)
	}
	next, err := beneath.Open(source)
	if err != nil {
		b.Fatal(err)
	}
	keys := func(_ string, ino uint64) (diff.Key, error) { return diff.Key{Ino: ino, Gen: 1}, nil }
	_, err = s.FirstCopy(context.Background(), apply.Copy{Next: next, Keys: keys, Mark: snapshot.Mark{ID: "x", Taken: time.Now()}}, apply.Options{})
	if err := errors.Join(err, next.Close(), s.Close()); err != nil {
		b.Fatal(err)
	}
}
