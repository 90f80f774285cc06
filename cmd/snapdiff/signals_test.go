package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stoppedBy starts a command line as a program, sends it a signal as soon as ready holds, and gives its status and all that it said.
func (b *jobBench) stoppedBy(s syscall.Signal, stdin io.Reader, ready func(said string) bool, args ...string) (int, string) {
	b.t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"--config", b.config}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	said, err := os.Create(filepath.Join(b.t.TempDir(), "said"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer said.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, said, said
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	text := func() string { out, _ := os.ReadFile(said.Name()); return string(out) }
	for end := time.Now().Add(time.Minute); !ready(text()) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if err := cmd.Process.Signal(s); err != nil {
		b.t.Fatalf("it had ended before the signal: %v\n%s", err, text())
	}
	err = cmd.Wait()
	var status *exec.ExitError
	if !errors.As(err, &status) {
		return 0, text()
	}
	return status.ExitCode(), text()
}

// A first copy that a signal stopped says so, and the next run finishes it. The jobs after it do not begin.
func TestSignalStopsAFirstCopy(t *testing.T) {
	b := newJobBench(t, "")
	b.snapdiff(0, "init")
	body := bytes.Repeat([]byte("x"), 100_000)
	for i := range 20 {
		b.write(fmt.Sprintf("%d/x", i))
	}
	for i := range 2000 {
		if err := os.WriteFile(filepath.Join(b.source, fmt.Sprint(i%20), fmt.Sprint(i)), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.configure("[jobs.other]\nsource = \"/nowhere\"\nstore = \"/nowhere/else\"\n")
	begun := func(string) bool {
		found, _ := filepath.Glob(filepath.Join(b.store, "tree/*/*"))
		return len(found) > 0
	}
	status, said := b.stoppedBy(syscall.SIGINT, nil, begun, "run")
	if want := "snapdiff: mail: stopped by SIGINT\n  next: the next run finishes what was begun\n"; status != 130 || said != want {
		t.Errorf("status %d, it says:\n%swant:\n%s", status, said, want)
	}
	b.configure("")
	if out := b.snapdiff(0, "run", "-v"); !strings.Contains(out, "finishing r1, which was cut off (copying)") {
		t.Errorf("the next run does not go on:\n%s", out)
	}
	b.equal()
}

// SIGTERM, as systemd sends it, reaches a hook, and what it stopped is started again.
func TestSignalWhileAHookRuns(t *testing.T) {
	b, log := newHookBench(t, `[ "$SNAPDIFF_HOOK" != before_snapshot ] || sleep 100`)
	conf, err := os.ReadFile(b.config)
	if err != nil {
		t.Fatal(err)
	}
	_, settings, _ := strings.Cut(string(conf), b.store+"\"\n")
	b.configure(strings.Replace(settings, `"1s"`, `"1m"`, 1))
	status, said := b.stoppedBy(syscall.SIGTERM, nil, func(string) bool {
		_, err := os.Stat(filepath.Join(filepath.Dir(b.config), "log"))
		return err == nil
	}, "run")
	if status != 143 || !strings.HasPrefix(said, "snapdiff: mail: stopped by SIGTERM\n") {
		t.Errorf("status %d:\n%s", status, said)
	}
	if got := log(); !strings.Contains(got, "after_snapshot mail failed") || !strings.Contains(got, "on_failure") {
		t.Errorf("the hooks were told:\n%s", got)
	}
}

// A question can be answered with an interrupt.
func TestSignalAtAQuestion(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a", "b")
	b.snapdiff(0, "init")
	b.silent("run")
	if err := os.Remove(filepath.Join(b.source, "a")); err != nil {
		t.Fatal(err)
	}
	b.silent("run")
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	status, said := b.stoppedBy(syscall.SIGINT, in, func(said string) bool { return strings.Contains(said, "Type") }, "erase", "a")
	if status != 130 || !strings.Contains(said, "\nsnapdiff: stopped by SIGINT\n") {
		t.Errorf("status %d:\n%s", status, said)
	}
	if out := b.snapdiff(0, "log", "a"); !strings.Contains(out, "r2") {
		t.Errorf("something was erased:\n%s", out)
	}
}
