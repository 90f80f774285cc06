package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A run has the priorities that its job asks for, on every thread, and so has what it starts; another job's run has none of them.
func TestPrioritiesOfARun(t *testing.T) {
	b := newJobBench(t, "")
	told := filepath.Join(filepath.Dir(b.config), "told")
	script := filepath.Join(filepath.Dir(b.config), "hook")
	text := `#!/bin/sh
for task in /proc/$PPID/task/*; do echo "$(cut -d' ' -f19 $task/stat) $(ionice -p ${task##*/})"; done | sort -u >` + told + `
echo "hook $(nice) $(ionice)" >>` + told + "\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	hook := "[jobs.mail.hooks]\nafter_run = [\"" + script + "\"]\n"
	b.configure("nice = 7\nionice = \"idle\"\n" + hook)
	b.snapdiff(0, "init")
	plain, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	own := strings.Fields(string(plain))[18]
	out, err := exec.Command("ionice", "-p", strconv.Itoa(os.Getpid())).Output()
	if err != nil {
		t.Fatal(err)
	}
	io := strings.TrimSpace(string(out))
	for _, c := range []struct{ settings, want string }{
		{"nice = 7\nionice = \"idle\"\n", "7 idle\nhook 7 idle\n"},
		{"ionice = \"best-effort:6\"\n", own + " best-effort: prio 6\nhook " + own + " best-effort: prio 6\n"},
		{"", own + " " + io + "\nhook " + own + " " + io + "\n"},
	} {
		b.configure(c.settings + hook)
		b.silent("run")
		got, err := os.ReadFile(told)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != c.want {
			t.Errorf("with %q the threads and the hook had\n%swant\n%s", c.settings, got, c.want)
		}
	}
}

// --bwlimit takes the place of the job's limit, with which this run would take 36 hours; what moves no file data is not held up.
func TestBwLimitOfARun(t *testing.T) {
	b := newJobBench(t, "bwlimit = \"512B\"\n")
	b.snapdiff(0, "init")
	b.silent("run")
	for _, bad := range []string{"fast", "-1", "1.5Q", "3b"} {
		if out := b.snapdiff(2, "run", "--bwlimit="+bad); !strings.Contains(out, "in a second") {
			t.Errorf("--bwlimit %s says\n%s", bad, out)
		}
	}
	if err := os.WriteFile(filepath.Join(b.source, "file"), make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	b.silent("run", "--bwlimit=0")
	b.silent("verify", "--bwlimit=1G")
}
