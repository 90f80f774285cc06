package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapdiff/diff"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
)

// A whole tree restored over a newer one: what it has is as it was, all else stays, and nothing outside is touched.
func TestRestoreOverwrites(t *testing.T) {
	store, old, _ := pastStore(t)
	to, outside := filepath.Join(t.TempDir(), "to"), t.TempDir()
	shell(t, store, "cp -a tree "+to+"; cd "+to+"; echo precious > "+outside+"/f; rm same/f; ln -s "+outside+"/f same/f; rm changed; ln -s "+outside+" gone")
	v := openView(t, store, 1)
	done, err := v.RestoreWith(context.Background(), "", to, RestoreOptions{Overwrite: true})
	var some *Unrestored
	if !errors.As(err, &some) || some.Names != 1 || !strings.Contains(err.Error(), "type") || !strings.Contains(err.Error(), "a directory is there") {
		t.Errorf("%+v %v: want a refusal to remove the directory type", done, err)
	}
	out, err := exec.Command("rsync", "-aHAXn", "--checksum", "--modify-window=-1", "--itemize-changes", "--exclude=/type", old+"/", to+"/").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
	shell(t, to, `test -e same/fresh; test -e now; test "$(cat `+outside+`/f)" = precious; ! ls -A . same | grep snapdiff`)
}

func TestTopmost(t *testing.T) {
	got := topmost([]string{"b/c/d", "a", "b/c", "b/cd", "a", "bc/x"})
	if want := "a b/c b/cd bc/x"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := topmost([]string{"a", ""}); len(got) != 1 || got[0] != "" {
		t.Errorf("%q, want the whole tree alone", got)
	}
}

// BenchmarkRestore restores 100,000 files of 4 KB in 1,000 directories, and says how long cp -a of the mirror takes.
func BenchmarkRestore(b *testing.B) {
	store, source := filepath.Join(b.TempDir(), "store"), b.TempDir()
	for i := range 1000 {
		dir := filepath.Join(source, fmt.Sprintf("d%03d", i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		for k := range 100 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%02d", k)), make([]byte, 4096), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := Init(store); err != nil {
		b.Fatal(err)
	}
	s, err := Open(store)
	if err != nil {
		b.Fatal(err)
	}
	next, err := beneath.Open(source)
	if err != nil {
		b.Fatal(err)
	}
	keys := func(_ string, ino uint64) (diff.Key, error) { return diff.Key{Ino: ino, Gen: 1}, nil }
	_, err = s.FirstCopy(context.Background(), Copy{Next: next, Keys: keys, Mark: snapshot.Mark{ID: "x", Taken: time.Now()}}, Options{})
	if err := errors.Join(err, next.Close(), s.Close()); err != nil {
		b.Fatal(err)
	}
	to := b.TempDir()
	var cp time.Duration
	for i := 0; b.Loop(); i++ {
		v, err := OpenView(store, "", 1)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v.Restore(context.Background(), "", filepath.Join(to, fmt.Sprint(i))); err != nil {
			b.Fatal(err)
		}
		v.Close()
		b.StopTimer()
		begin := time.Now()
		if out, err := exec.Command("cp", "-a", filepath.Join(store, "tree"), filepath.Join(to, fmt.Sprint("cp", i))).CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		cp += time.Since(begin)
		b.StartTimer()
	}
	b.ReportMetric(cp.Seconds()/float64(b.N), "cp-s/op")
}
