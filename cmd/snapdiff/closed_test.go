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

// TestSetUserID: a set-uid program of the source has its bits and its capabilities in the mirror, where nobody else comes to it, and in what is restored of
// the mirror and of history, as rsync would have it. What users made set-uid belongs to them.
func TestSetUserID(t *testing.T) {
	b := newJobBench(t, "")
	b.sh(`cd $S; for f in roots theirs groups linked; do cp /usr/bin/id $f; done; chown 1001:1001 theirs; chown 0:1001 groups; chmod 4755 roots theirs; chmod 2755 groups; ln linked link; chmod 6755 linked
		mkdir -m 2775 shared; chown 1001:1001 shared; chmod 2775 shared; cp /usr/bin/id able; setfattr -n security.capability -v 0x0100000280000000000000000000000000000000 able`)
	b.snapdiff(0, "init")
	b.silent("run")
	b.equal()
	old := filepath.Join(t.TempDir(), "old")
	b.sh("rsync -aHAX --modify-window=-1 --exclude=/.snapdiff $S/ " + old)
	b.sh("cd $S; chmod 755 roots; chown 0:0 theirs; chmod 4711 theirs; rm groups able; echo more >> linked; chmod 4755 linked")
	b.silent("run")
	b.equal()
	to := filepath.Join(b.fs, "restored") // where set-uid programs work
	b.snapdiff(0, "restore", "r1", b.source, to)
	sameTrees(t, old, to)
	for _, c := range []struct{ dir, program, want string }{
		{b.source, "./theirs", "0\n"}, {to, "./roots", "0\n"}, {to, "./theirs", "1001\n"},
		{filepath.Dir(b.store), "./store/tree/theirs", "denied"}, {filepath.Dir(b.store), "./store/tree/linked", "denied"},
	} {
		out, err := runAs("1002", c.dir, "sh", "-c", c.program+" -u") // setpriv itself has root's capabilities until it has started something
		if denied := c.want == "denied"; denied != (err != nil) || denied && !strings.Contains(out, "ermission denied") || !denied && out != c.want {
			t.Errorf("%s in %s as another user: %v, %q; want %q", c.program, c.dir, err, out, c.want)
		}
	}
}
