package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"snapdiff/apply/applytest"
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

// An interrupt at any moment of any command ends it with the status that says so, and nothing is wrong afterwards.
func TestSignalAtAnyMoment(t *testing.T) {
	random := rand.New(rand.NewPCG(applytest.Seed(t), 7))
	b := newJobBench(t, "keep = { last = 3 }")
	b.write("always")
	b.snapdiff(0, "init")
	files, rounds := 0, 2
	if applytest.Soak() {
		rounds = 15
	}
	change := func() {
		b.write("always")
		for i := range 300 {
			b.write(fmt.Sprintf("%d/%d", i%20, files+i), fmt.Sprintf("%d/same", i%20))
		}
		b.allRight(os.RemoveAll(filepath.Join(b.source, fmt.Sprint(random.IntN(20)))))
		files += 100
	}
	nothing := func() {}
	commands := []struct {
		before func()
		args   []string
	}{
		{change, []string{"run"}},
		{change, []string{"run", "--full"}},
		{nothing, []string{"run"}},
		{nothing, []string{"verify"}},
		{nothing, []string{"verify", "--checksums"}},
		{nothing, []string{"verify", "--history"}},
		{nothing, []string{"doctor"}},
		{func() { b.allRight(os.Remove(b.catalog())) }, []string{"doctor", "--repair"}},
		{nothing, []string{"restore", "latest", ".", "TO"}},
		{nothing, []string{"tar", "latest"}},
		{nothing, []string{"find", "*"}},
		{nothing, []string{"log", "always"}},
		{nothing, []string{"diff"}},
		{func() { b.snapdiff(0, "run"); change(); b.snapdiff(0, "run") }, []string{"prune"}},
		{func() {
			b.write("erased/" + fmt.Sprint(files))
			b.snapdiff(0, "run")
			b.allRight(os.RemoveAll(filepath.Join(b.source, "erased")))
			b.snapdiff(0, "run")
		},
			[]string{"erase", "--yes", "erased"}},
	}
	for round := range rounds {
		for _, c := range commands {
			args := slices.Clone(c.args)
			if i := slices.Index(args, "TO"); i >= 0 {
				args[i] = filepath.Join(t.TempDir(), "to")
			}
			what := fmt.Sprintf("round %d, %q", round, args)
			c.before()
			status, said := b.interrupted(time.Duration(random.IntN(300))*time.Millisecond, args...)
			switch {
			case status == 130 && strings.Contains(said, "stopped by SIGINT"), status == 0:
			case status == -1 && !strings.Contains(said, "stopped"): // ended by the signal itself: it did not listen yet, or all was done
			default:
				t.Errorf("%s: status %d:\n%s", what, status, said)
			}
			if out := b.snapdiff(0, "doctor", "--repair"); c.args[0] != "doctor" && strings.Contains(out, "rebuilt") {
				t.Errorf("%s has damaged the catalog:\n%s", what, out)
			}
			b.snapdiff(0, "run")
			b.equal()
			b.snapdiff(0, "verify", "--history")
			if out := b.snapdiff(0, "doctor"); !strings.Contains(out, "sound") {
				t.Errorf("%s: doctor says:\n%s", what, out)
			}
		}
	}
}

// interrupted starts a command line as a program and sends it SIGINT after a while, if it has not ended.
func (b *jobBench) interrupted(after time.Duration, args ...string) (status int, said string) {
	b.t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"--config", b.config}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	b.allRight(cmd.Start())
	time.Sleep(after)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		b.t.Fatal(err)
	}
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), errs.String()
}
