package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Nothing is written into a store, of whatever job, however the way leads there: no run would notice it.
func TestNothingIsWrittenIntoAStore(t *testing.T) {
	b := newJobBench(t, "")
	b.write("moved/0003.txt", "dir/tree")
	b.snapdiff(0, "init")
	b.silent("run")
	b.sh("rm $S/moved/0003.txt")
	b.silent("run")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	b.configure(fmt.Sprintf("[jobs.other]\nsource = %q\nstore = %q\n", b.source, at("other")))
	b.must(os.Mkdir(at("other"), 0o700))
	b.must(os.Symlink(b.store, at("link")))
	b.must(os.Symlink("link/tree/moved", at("deep")))
	b.bind(b.store, at("all"))
	b.bind(filepath.Join(b.store, "tree"), at("mirror"))
	b.bind(filepath.Join(b.store, "tree/moved"), at("part"))
	b.bind(filepath.Dir(b.store), at("above"))
	const words = "no run notices"
	t.Chdir(filepath.Join(b.store, "tree"))
	b.refused(2, words, "restore", "-j", "mail", "r1", "moved/0003.txt")
	t.Chdir(dir)
	for _, to := range []string{
		b.store, b.store + "/tree/moved", b.store + "/tree/moved/new", b.store + "/history/r2", b.store + "/stage", "link", "deep", "deep/new", "all/tree",
		"all", "mirror/moved", "mirror", "part/new", "part", "above/store/tree", "other/new",
	} {
		b.refused(2, words, "restore", "-j", "mail", "r1", "moved/0003.txt", to)
		b.refused(2, "next: name a place outside", "restore", "-j", "mail", "r1", "moved/0003.txt", to, "--overwrite")
	}
	b.refused(2, words, "restore", "-j", "mail", "r1", "dir/tree", b.store, "--overwrite")
	b.refused(2, "place for the snapshots", "restore", "-j", "mail", "r1", "moved/0003.txt", b.source+"/.snapdiff")
	b.must(os.WriteFile(at("list"), []byte("moved/0003.txt\n"), 0o600))
	b.refused(2, words, "restore", "-j", "mail", "r1", "--files-from", at("list"), "mirror")
	b.refused(2, words, "mount", "-j", "mail", "r1", b.store+"/tree/moved")
	b.refused(2, words, "mount", "-j", "mail", "--all", "part")
	b.refused(2, words, "tar", "-j", "mail", "r2", "--since", "r1", "--deleted", "deep/went")
	b.refused(2, words, "diff", "-j", "mail", "--format=lines", "--rejects", "mirror/rejects")
	b.refused(2, words, "status", "--metrics", "all/mail.prom")
	b.silent("verify", "mail")
	b.equal()

	// The shell has opened the file before anybody could refuse that.
	cmd := exec.Command("sh", "-c", `exec "$0" "$@" > part/archive`, "/proc/self/exe")
	cmd.Args[3], _ = os.Executable()
	cmd.Args = append(cmd.Args, "--config", b.config, "tar", "-j", "mail", "r1")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "next: remove it") {
		t.Errorf("an archive in the mirror: %v\n%s", err, out)
	}
	b.must(os.Remove(b.store + "/tree/moved/archive"))

	// What is beside a store, or is called as one, is none.
	b.must(os.Mkdir(at("store"), 0o700))
	for _, to := range []string{"store", "new", b.source, filepath.Dir(b.store), b.store + "-beside"} {
		b.snapdiff(0, "restore", "-j", "mail", "r1", "moved/0003.txt", to)
	}
	b.snapdiff(0, "status", "--metrics", "mail.prom")
}
