package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
)

// mountPoint is a directory that is free again when the test ends.
func mountPoint(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// runAs runs a program as a user in a directory, whoever may enter what is above it.
func runAs(uid, dir string, args ...string) (string, error) {
	cmd := exec.Command("setpriv", append([]string{"--reuid=" + uid, "--regid=" + uid, "--clear-groups"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// seenBy is all that a user can see of a tree: names, owners, modes, attributes, contents, and what is refused.
func seenBy(uid, dir string) string {
	const look = `export LC_ALL=C
		each() { find . -path ./.snapdiff -prune -o "$@"; }
		each ! -type d -printf '%p %s %l\n'; each -printf '%p %y %m %U %G %T@\n'
		each -type f -exec sha256sum {} +
		each -type f -exec sh -c 'for f; do test -r "$f" && echo "may read $f"; test -x "$f" && echo "may run $f"; done' sh {} +
		each ! -type l -exec sh -c 'for f; do getfacl -n "$f" | tr "\n" " "; echo; done' sh {} +`
	out, err := runAs(uid, dir, "sh", "-c", look)
	lines := strings.Split(out, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n") + fmt.Sprint(err)
}

// With --allow-other others see in a mount what they see in the source, and no more; set-uid programs and devices do nothing there.
// Without it the mount is root's alone.
func TestMountForOtherUsers(t *testing.T) {
	b := newJobBench(t, "")
	b.snapdiff(0, "init")
	b.sh(`cd $S; chmod 755 .; mkdir -m 700 private; echo p > private/p; mkdir -m 711 blind; echo b > blind/known; mkdir shared; chown 1000:1000 private shared
		echo all > all; echo mine > mine; chmod 600 mine; chown 1000:1000 mine; echo group > group; chmod 640 group; chown 0:1001 group
		echo acl > acl; chmod 600 acl; setfacl -m u:1001:r,m::r acl; echo none > none; chmod 0 none; chown 1001 none
		setfacl -d -m u:1001:rwx shared; mkdir shared/below; echo inherited > shared/below/f
		cp /usr/bin/id suid; chmod 4755 suid; mknod -m 666 null c 1 3; ln -s private/p link`)
	b.silent("run")
	t.Setenv(asProgram, "1")
	closed, open := mountPoint(t), mountPoint(t)
	b.snapdiff(0, "mount", "r1", closed)
	b.snapdiff(0, "mount", "--allow-other", "latest", open)
	for _, uid := range []string{"0", "1000", "1001", "1002"} {
		want := seenBy(uid, b.source)
		if got := seenBy(uid, open); got != want {
			for _, line := range strings.Split(got, "\n") {
				if !strings.Contains(want, line) {
					t.Errorf("user %s sees in the mount, and not in the source, %q", uid, line)
				}
			}
			t.Errorf("user %s sees in the source\n%s", uid, want)
		}
		if !strings.Contains(want, "  ./all\n") {
			t.Errorf("user %s does not see the source:\n%s", uid, want)
		}
	}
	as := func(uid, dir string, args ...string) string {
		out, err := runAs(uid, dir, args...)
		return strings.TrimSpace(out) + map[bool]string{true: "", false: " (failed)"}[err == nil]
	}
	for _, c := range []struct{ want, got string }{
		{"0", as("1001", b.source, "./suid", "-u")},
		{"1001", as("1001", open, "./suid", "-u")},
		{"", as("1001", b.source, "cat", "null")},
		{"cat: null: Permission denied (failed)", as("1001", open, "cat", "null")},
		{"cat: all: Permission denied (failed)", as("1001", closed, "cat", "all")},
		{"all", as("0", closed, "cat", "all")},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
	b.silent("umount", open)
	b.silent("umount", closed)
}

// A restore point that is mounted is not pulled away: prune says why it stays, and takes it the next time.
func TestPruneLeavesWhatIsMounted(t *testing.T) {
	b, old := twoPoints(t)
	b.configure("keep = { last = 1 }")
	t.Setenv(asProgram, "1")
	dir := mountPoint(t)
	if out := b.stdout(0, "mount", "r1", dir, "--json"); out != fmt.Sprintf(`{"job":"mail","run":"r1","path":%q}`+"\n", dir) {
		t.Errorf("mount --json: %s", out)
	}
	if out := columns(b.stdout(0, "prune"), 1, 3, 4); out != "r1 keep in use \nr2 keep newest, last \n" {
		t.Errorf("prune:\n%s", out)
	}
	sameTrees(t, old, dir)
	b.write("anna/1", "new")
	b.silent("run")
	sameTrees(t, old, dir)
	b.silent("umount", dir)
	if out := columns(b.stdout(0, "prune"), 1, 3, 4); !strings.HasPrefix(out, "r1 drop no rule keeps it \n") {
		t.Errorf("prune afterwards:\n%s", out)
	}
	b.refused(1, "no such restore point", "mount", "r1", dir)
}

// A store on media that cannot be written serves everything that only looks.
func TestStoreOnReadOnlyMedia(t *testing.T) {
	b := newJobBench(t, "")
	disk := applytest.Mount(t, applytest.Ext4)
	b.store = filepath.Join(disk, "store")
	b.configure("keep = { last = 1 }")
	b.write("anna/1", "bert", "gone/deep/1")
	b.sh("head -c 9000000 /dev/urandom > $S/large; truncate -s 20M $S/large; ln $S/bert $S/anna/link; setfattr -n user.a -v b $S/anna")
	b.snapdiff(0, "init")
	b.configure("")
	b.silent("run")
	old := filepath.Join(t.TempDir(), "old")
	b.sh("cp -a $S " + old + "; cd $S; echo x | dd of=large conv=notrunc seek=3000 2>/dev/null; rm -r gone; mv bert carl; echo more >> anna/1")
	b.silent("run")
	b.must(unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	t.Setenv(asProgram, "1")
	dir := mountPoint(t)
	for _, how := range [][]string{{"r1"}, {"--all"}} {
		b.snapdiff(0, append(append([]string{"mount"}, how...), dir)...)
		if at := dir; how[0] == "r1" {
			sameTrees(t, old, at)
		} else {
			sameTrees(t, b.source, filepath.Join(at, "latest"))
		}
		b.silent("umount", dir)
	}
	to := filepath.Join(t.TempDir(), "to")
	b.snapdiff(0, "restore", "r1", b.source, to)
	sameTrees(t, old, to)
	to = t.TempDir()
	untar(t, b.stdout(0, "tar", "r1"), to)
	sameTrees(t, old, to)
	for _, c := range []struct{ want, args string }{
		{`^r1\t.*\t=\tgone/deep/1\nr2\t.*\t-\tgone/deep/1\n$`, "log gone/deep/1"},
		{`^r1\t.*\tr1\t.*\tgone/deep/1\n$`, "find --deleted 1"},
		{`^mail\tr1\t.*\nmail\tr2\t`, "list"},
		{`(?s)M anna/1 \(data\)\n.*R bert -> carl.*M large \(data\)`, "diff r1 r2"},
		{`r2`, "status"},
		{`: 0 rotten or missing`, "verify --checksums -v"},
		{`: 0 rotten or missing`, "verify --history -v"},
		{`: 0 rotten or missing`, "verify --at r1 -v"},
	} {
		if status, out := b.any(strings.Split(c.args, " ")...); !regexp.MustCompile(c.want).MatchString(out) {
			t.Errorf("%s: status %d:\n%s", c.args, status, out)
		}
	}
	b.configure("keep = { last = 1 }")
	for _, command := range []string{"run", "prune", "erase gone --yes"} {
		if status, out := b.any(strings.Split(command, " ")...); status == 0 || !strings.Contains(out, "read-only") {
			t.Errorf("%s: status %d, and nothing is said of read-only media:\n%s", command, status, out)
		}
	}
}
