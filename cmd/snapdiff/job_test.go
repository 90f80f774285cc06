package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapdiff/apply"
	"snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
)

// jobBench is one job on real filesystems.
type jobBench struct {
	t                     *testing.T
	fs                    string // the btrfs that holds the source
	source, store, config string
	old                   []byte // a copy that a test keeps of the catalog
}

// newJobBench makes a btrfs with a source in it; the store is to be made.
func newJobBench(t *testing.T, settings string) *jobBench {
	return newJobBenchOn(t, applytest.Mount(t, applytest.Btrfs), settings)
}

// newJobBenchOn is newJobBench on a btrfs that several benches share.
func newJobBenchOn(t *testing.T, fs, settings string) *jobBench {
	b := &jobBench{t: t, fs: fs}
	dir := t.TempDir()
	b.source, b.store = filepath.Join(b.fs, filepath.Base(t.Name())), filepath.Join(dir, "store")
	b.config = filepath.Join(dir, "snapdiff.toml")
	applytest.Subvolume(t, b.source)
	b.configure(settings)
	return b
}

func (b *jobBench) configure(settings string) {
	text := fmt.Sprintf("[jobs.mail]\nsource = %q\nstore = %q\n%s\n", b.source, b.store, settings)
	if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// snapdiff runs a command line, wants an exit status, and gives all that was printed.
func (b *jobBench) snapdiff(status int, args ...string) string {
	b.t.Helper()
	var out bytes.Buffer
	if got := execute(append([]string{"--config", b.config}, args...), &out, &out); got != status {
		b.t.Fatalf("snapdiff %q: status %d, want %d:\n%s", args, got, status, out.String())
	}
	return out.String()
}

// any runs a command line, whatever it says.
func (b *jobBench) any(args ...string) (status int, text string) {
	b.t.Helper()
	var out bytes.Buffer
	status = execute(append([]string{"--config", b.config}, args...), &out, &out)
	return status, out.String()
}

// silent runs a command line that must print nothing.
func (b *jobBench) silent(args ...string) {
	b.t.Helper()
	if out := b.snapdiff(0, args...); out != "" {
		b.t.Errorf("snapdiff %q is not silent:\n%s", args, out)
	}
}

// refused runs a command line that must fail with these words.
func (b *jobBench) refused(status int, words string, args ...string) {
	b.t.Helper()
	if out := b.snapdiff(status, args...); !strings.Contains(out, words) {
		b.t.Errorf("snapdiff %q does not say %q:\n%s", args, words, out)
	}
}

// write makes files below the source; a name that ends in / is a directory.
func (b *jobBench) write(names ...string) {
	b.t.Helper()
	for _, name := range names {
		path := filepath.Join(b.source, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(name), 0o644)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// equal lets rsync compare the source with the mirror.
func (b *jobBench) equal() {
	b.t.Helper()
	out, err := exec.Command("rsync", "-aHAXn", "--delete", "--checksum", "--modify-window=-1", "--itemize-changes",
		"--exclude=/.snapdiff", b.source+"/", filepath.Join(b.store, "tree")+"/").CombinedOutput()
	if err != nil || len(out) > 0 {
		b.t.Fatalf("the mirror differs from the source (%v):\n%s", err, out)
	}
}

// snapshots counts our snapshots.
func (b *jobBench) snapshots() int {
	b.t.Helper()
	entries, err := os.ReadDir(filepath.Join(b.source, ".snapdiff"))
	if err != nil {
		b.t.Fatal(err)
	}
	return len(entries)
}

func TestRunKeepsTheMirror(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a/1", "a/2", "b/c/d")
	b.snapdiff(0, "init")
	b.refused(0, "is there already", "init")
	b.silent("run")
	b.equal()

	b.write("a/3", "new/dir/file", "a/1")
	for _, err := range []error{
		os.Rename(filepath.Join(b.source, "b"), filepath.Join(b.source, "a/moved")),
		os.Remove(filepath.Join(b.source, "a/2")),
		os.Link(filepath.Join(b.source, "a/1"), filepath.Join(b.source, "new/link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	b.silent("run")
	b.equal()
	b.silent("run")
	b.equal()
	if n := b.snapshots(); n != 1 {
		t.Errorf("%d snapshots are left, want the base alone", n)
	}
	if _, err := os.Lstat(filepath.Join(b.store, "tree/.snapdiff")); !os.IsNotExist(err) { // which rsync was told not to look at
		t.Errorf("the place for snapshots is in the mirror: %v", err)
	}
	if out := b.snapdiff(0, "list", "--json"); strings.Count(out, "\n") != 3 || !strings.Contains(out, `"how":"native"`) {
		t.Errorf("list --json:\n%s", out)
	} else {
		for _, key := range []string{"job", "run", "state", "time", "how", "added", "removed", "modified", "meta", "files", "dirs", "bytes", "seconds", "history_bytes", "incomplete"} {
			if strings.Count(out, `"`+key+`":`) != 3 {
				t.Errorf("list --json has not each time the key %s:\n%s", key, out)
			}
		}
	}
}

func TestBadInput(t *testing.T) {
	b := newJobBench(t, "")
	subvolume := b.source

	b.source = filepath.Join(b.fs, "plain")
	b.write("file")
	b.configure("")
	b.refused(1, "is not a btrfs subvolume", "init")
	b.source = filepath.Join(b.fs, "nothing")
	b.configure("")
	b.refused(1, "no such file", "init")
	b.source = subvolume
	b.configure("")

	b.refused(1, "snapdiff init", "run")
	if _, err := os.Lstat(b.store); !os.IsNotExist(err) {
		t.Errorf("something was written for a store that does not exist: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(b.store, "photos"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.refused(1, "snapdiff init", "run")
	b.refused(1, "not empty", "init")
}

func TestStoreInsideTheSource(t *testing.T) {
	b := newJobBench(t, "")
	b.store = filepath.Join(b.source, "backup")
	b.configure("")
	b.refused(1, "inside the source", "init")
}

// A first copy that was stopped and whose snapshot is gone begins anew.
func TestFirstCopyBeginsAnew(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a", "b")
	b.snapdiff(0, "init")
	b.stopped()
	b.check(0, "r1 was cut off")
	b.sh("btrfs -q subvolume delete $S/.snapdiff/*; rm $S/a; touch $S/c")
	b.check(0, "the snapshot of r1 cannot be used")
	b.refused(0, "r1 done: 2 files and ", "run", "--verbose")
	b.equal()
	b.checkCatalog()
	b.wantSnapshots(1, "the base")
}

func TestSecondRunLeaves(t *testing.T) {
	b := newJobBench(t, "")
	b.snapdiff(0, "init")
	store, err := apply.Open(b.store)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, command := range []string{"run", "verify", "doctor", "prune"} {
		if command == "prune" {
			b.configure("keep = { last = 1 }")
		}
		b.refused(4, fmt.Sprintf("another snapdiff is working on this store (process %d): wait until it has ended", os.Getpid()), command)
	}
	b.silent("list") // only what writes is kept out
	b.refused(0, fmt.Sprintf("process %d works", os.Getpid()), "check")
}

// TestTwoRunsAtOnce starts real processes at the same time: for one job one of them runs, the others say so and leave, whether the first has taken its
// snapshot or not, and nobody takes the other's snapshot for a stray.
func TestTwoRunsAtOnce(t *testing.T) {
	b := newJobBench(t, "")
	b.snapdiff(0, "init")
	at := filepath.Join(b.fs, "hook")
	b.configure("[jobs.mail.hooks]\nafter_snapshot = [\"/bin/sh\", \"-c\", \"touch " + at + ".begun; while [ ! -e " + at + ".go ]; do sleep 0.02; done\"]")
	for _, first := range []bool{true, false} {
		b.write("a/1", fmt.Sprintf("%v/2", first))
		b.sh("rm -f hook.*")
		long, said := b.process("run")
		for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(10 * time.Millisecond) {
			if _, err := os.Stat(at + ".begun"); err == nil {
				break
			}
		}
		for _, command := range []string{"run", "verify", "run"} {
			other, otherSaid := b.process(command)
			if err := other.Wait(); other.ProcessState.ExitCode() != 4 || !strings.Contains(otherSaid.String(), "another snapdiff") {
				t.Errorf("%s beside a run: %v\n%s", command, err, otherSaid)
			}
		}
		b.sh("touch hook.go")
		if err := long.Wait(); err != nil || said.Len() > 0 {
			t.Errorf("the run beside which others were started: %v\n%s", err, said)
		}
		b.equal()
		b.wantSnapshots(1, "the base")
	}

	b.configure("")
	for round := range 4 { // who is first is chance
		b.write(fmt.Sprintf("round%d/1", round), "a/1")
		var all []*exec.Cmd
		var texts []*bytes.Buffer
		for range 3 {
			cmd, said := b.process("run")
			all, texts = append(all, cmd), append(texts, said)
		}
		done := 0
		for i, cmd := range all {
			_ = cmd.Wait()
			switch code := cmd.ProcessState.ExitCode(); {
			case code == 0 && texts[i].Len() == 0:
				done++
			case code != 4 || !strings.Contains(texts[i].String(), "another"):
				t.Errorf("one of several runs: status %d\n%s", code, texts[i])
			}
		}
		if done == 0 {
			t.Error("each of the runs left it to the others")
		}
		b.equal()
		b.wantSnapshots(1, "the base")
	}
	b.checkCatalog()
	if out := b.snapdiff(0, "list", "--json"); strings.Contains(out, `"how":"full"`) {
		t.Errorf("not all runs are native:\n%s", out)
	}
}

// process starts a command line as a program.
func (b *jobBench) process(args ...string) (*exec.Cmd, *bytes.Buffer) {
	b.t.Helper()
	cmd, said := exec.Command("/proc/self/exe", append([]string{"--config", b.config}, args...)...), new(bytes.Buffer)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, said
}

func TestDemo(t *testing.T) {
	applytest.NeedRoot(t)
	var out bytes.Buffer
	if status := execute([]string{"demo"}, &out, &out); status != 0 || !strings.Contains(out.String(), "no difference") || !strings.Contains(out.String(), "R user03/ -> user03-moved-to-another-name/") {
		t.Errorf("status %d:\n%s", status, out.String())
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "snapdiff-demo-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q %v", left, err)
	}
}

// After a run that a signal stopped before it changed the mirror, the next one gives an exact mirror and leaves no stray
// snapshot, also when the source has changed meanwhile. (Cuts inside the phases are tested in apply.)
func TestRunAfterAStoppedOne(t *testing.T) {
	b := newJobBench(t, "")
	b.snapdiff(0, "init")
	for round := range 3 {
		b.write(fmt.Sprintf("round%d/a", round), "again")
		b.stopped()
		b.write(fmt.Sprintf("round%d/b", round))
		b.silent("run")
		b.equal()
		if n := b.snapshots(); n != 1 {
			t.Errorf("round %d: %d snapshots are left, want the base alone", round, n)
		}
	}
}

// stopped makes a run that is stopped just before it changes the mirror.
func (b *jobBench) stopped() {
	b.t.Helper()
	c, err := config.Load(b.config)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	_, err = job.Run(ctx, c.Jobs[0], job.Options{Say: func(format string, _ ...any) {
		if strings.HasPrefix(format, "first run") || strings.HasPrefix(format, "changed") || strings.HasPrefix(format, "finishing") {
			cancel()
		}
	}})
	if statusOf(err) != 130 {
		b.t.Fatalf("the stopped run says %v", err)
	}
}
