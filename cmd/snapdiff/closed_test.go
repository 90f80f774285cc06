package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOthersCannotMeddle: what is open to other users is refused or closed, and programs get an environment of their own.
func TestOthersCannotMeddle(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a")
	b.snapdiff(0, "init")
	b.silent("run")
	if st, err := os.Stat(b.store); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the store is open to others: %v, %v", st.Mode(), err)
	}
	for _, mode := range []os.FileMode{0o602, 0o666} {
		b.must(os.Chmod(b.config, mode))
		b.refused(2, "can be written by others", "run")
		b.refused(2, "next: chmod go-w "+b.config, "list")
	}
	b.must(os.Chmod(b.config, 0o640), os.Chown(b.config, 12345, -1))
	b.refused(2, "belongs to user 12345", "run")
	b.must(os.Chown(b.config, 0, -1), os.Chmod(b.store, 0o777))
	b.refused(1, "can be written by others", "run")
	b.must(os.Chmod(b.store, 0o700))

	for name, value := range map[string]string{"LD_PRELOAD": "/nowhere.so", "BASH_ENV": "/nowhere", "ZFS_DIFF_NO_MANGLE": "1", "LVM_SYSTEM_DIR": "/nowhere", "SNAPDIFF_JOB": "other", "PATH": "/nowhere"} {
		t.Setenv(name, value)
	}
	log := filepath.Join(t.TempDir(), "environment")
	b.configure("[jobs.mail.hooks]\nafter_run = [\"/usr/bin/echo\", \"; touch " + log + ".shell\"]\nbefore_snapshot = [\"/usr/bin/cp\", \"/proc/self/environ\", \"" + log + "\"]")
	b.snapdiff(0, "run")
	env, err := os.ReadFile(log)
	b.must(err)
	for _, v := range strings.Split(strings.TrimSuffix(string(env), "\x00"), "\x00") {
		name, value, _ := strings.Cut(v, "=")
		switch {
		case name == "PATH" && strings.HasPrefix(value, "/usr/local/sbin:"), name == "LC_ALL" && value == "C", name == "SNAPDIFF_JOB" && value == "mail":
		case strings.HasPrefix(name, "SNAPDIFF_") && name != "SNAPDIFF_JOB", name == "HOME", name == "USER", name == "LOGNAME", name == "SHELL", name == "TERM", name == "TZ":
		case name == "NO_COLOR", name == "JOURNAL_STREAM", name == "NOTIFY_SOCKET", name == "INVOCATION_ID", name == "GOMEMLIMIT", name == "GOMAXPROCS":
		default:
			t.Errorf("the hook got %q", v)
		}
	}
	if !strings.Contains(string(env), "SNAPDIFF_JOB=mail\x00") {
		t.Errorf("the hook does not know its job: %q", env)
	}
	if _, err := os.Lstat(log + ".shell"); err == nil {
		t.Error("a hook's argument went through a shell")
	}
}
