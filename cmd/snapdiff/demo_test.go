package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"snapdiff/apply/applytest"
)

// demoBench has demos make all that they make in a directory of the test's.
func demoBench(t *testing.T) (b *jobBench, dir string) {
	t.Helper()
	applytest.NeedRoot(t)
	dir = t.TempDir()
	t.Setenv("TMPDIR", dir)
	return &jobBench{t: t, config: "/nonexistent"}, dir
}

// nothingOf makes sure that a demo has left no file, mount or loop device.
func (b *jobBench) nothingOf(dir string) {
	b.t.Helper()
	left, err := os.ReadDir(dir)
	b.allRight(err)
	for _, e := range left {
		if strings.HasPrefix(e.Name(), "snapdiff-demo-") {
			b.t.Errorf("left behind: %s", e.Name())
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	b.allRight(err)
	if strings.Contains(string(mounts), dir) {
		b.t.Errorf("something is mounted below %s", dir)
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	b.allRight(err)
	for _, file := range loops {
		if text, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(text), dir) {
			b.t.Errorf("%s is attached to %s", text, file)
		}
	}
}

// TestDemoAlone: the demo calls no program: neither btrfs-progs nor losetup nor mount. rsync, which judges the mirror, may be missing.
func TestDemoAlone(t *testing.T) {
	b, dir := demoBench(t)
	cmd := exec.Command("/proc/self/exe", "demo")
	cmd.Env = []string{asProgram + "=1", "TMPDIR=" + dir, "PATH=" + t.TempDir()}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "What the second day deleted is still there") || !strings.Contains(string(out), "rsync is not there: the mirror was not compared") {
		t.Errorf("without any other program: %v\n%s", err, out)
	}
	b.nothingOf(dir)
}

// TestDemoStopped: a demo that is stopped, early or late, cleans up like one that ends.
func TestDemoStopped(t *testing.T) {
	b, dir := demoBench(t)
	for moment, ready := range map[string]func(said string) bool{
		"the filesystem is made": func(string) bool {
			found, err := filepath.Glob(filepath.Join(dir, "snapdiff-demo-*", "image"))
			return err == nil && len(found) > 0
		},
		"the first copy": func(said string) bool { return strings.Contains(said, "$ snapdiff run") },
		"a day later":    func(said string) bool { return strings.Contains(said, "A day later") },
	} {
		for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			if status, said := b.stoppedBy(s, nil, ready, "demo"); status != 128+int(s) || !strings.Contains(said, "stopped by "+stopSignal{s}.Error()) {
				t.Errorf("%s at %q: status %d\n%s", stopSignal{s}, moment, status, said)
			}
			b.nothingOf(dir)
		}
	}
}
