package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/config"
)

// asProgram makes this test program behave as snapdiff itself, for commands that start it again.
const asProgram = "SNAPDIFF_TEST_AS_PROGRAM"

// asMain is its value for a program that begins in main, where the environment is cleared.
const asMain = "main"

func TestMain(m *testing.M) {
	switch as := os.Getenv(asProgram); {
	case as == asMain:
		main()
	case as != "":
		os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
	case len(os.Args) > 2 && os.Args[1] == destroyCommand: // started by a run that had cleared its environment
		tellEnvironment(os.Args[len(os.Args)-1])
		main()
	}
	os.Exit(m.Run())
}

// twoPoints is a job with two restore points; the first is kept aside in old.
func twoPoints(t *testing.T) (b *jobBench, old string) {
	b = newJobBench(t, "")
	b.write("anna/1", "anna/2", "bert/1", "gone/deep/1")
	b.snapdiff(0, "init")
	b.snapdiff(0, "run")
	old = filepath.Join(t.TempDir(), "old")
	script := "cp -a " + b.source + " " + old + "; cd " + b.source + "; echo more >> anna/1; mv bert carl; ln anna/2 carl/2; rm -r gone; chmod 700 anna"
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b.snapdiff(0, "run")
	return b, old
}

func sameTrees(t *testing.T, want, got string) {
	t.Helper()
	out, err := exec.Command("rsync", "-aHAXn", "--delete", "--checksum", "--modify-window=-1", "--itemize-changes",
		"--exclude=/.snapdiff", want+"/", got+"/").CombinedOutput()
	if err != nil || len(strings.TrimSpace(string(out))) > 0 {
		t.Errorf("%s differs from %s: %v\n%s", got, want, err, out)
	}
}

func TestRestoreCommand(t *testing.T) {
	b, old := twoPoints(t)
	to := t.TempDir()
	if out := b.snapdiff(0, "restore", "r1", filepath.Join(b.source, "gone"), to); !strings.Contains(out, "restore point r1 of ") {
		t.Errorf("it does not say which restore point: %s", out)
	}
	sameTrees(t, filepath.Join(old, "gone"), filepath.Join(to, "gone"))
	b.snapdiff(0, "restore", "r1", "anna", filepath.Join(to, "anna.old"))
	sameTrees(t, filepath.Join(old, "anna"), filepath.Join(to, "anna.old"))
	b.snapdiff(0, "restore", "latest", b.source, filepath.Join(to, "all"))
	sameTrees(t, b.source, filepath.Join(to, "all"))
	b.refused(1, "nothing is overwritten", "restore", "r1", "gone", to)
	b.refused(1, "/gone/deep\": it is there already, and nothing is overwritten\n", "restore", "r1", "gone/deep", filepath.Join(to, "gone"))
	b.refused(1, "next: name another place, or allow it with --overwrite", "restore", "r1", "gone", to)
	b.refused(1, "r2 has no \"gone\"\n  next: snapdiff find GLOB", "restore", "latest", "gone", to)
	no := filepath.Join(to, "no such", "dir")
	b.refused(1, fmt.Sprintf("there is no directory %q\n  next: mkdir -p '%s'\n", no, no), "restore", "r1", "gone", filepath.Join(no, "x"))
	b.must(os.WriteFile(filepath.Join(to, "file"), nil, 0o600))
	b.refused(1, fmt.Sprintf("%q is no directory", filepath.Join(to, "file")), "restore", "r1", "gone", filepath.Join(to, "file", "x"))
	b.refused(2, "PATH is empty\n  next: all of the source is \".\" or "+b.source, "restore", "r1", "", to)
	b.refused(2, "/ is not in the source "+b.source+" of job mail\n  next: give a path below it, or one relative to it; all of it is \".\" or "+b.source, "restore", "r1", "/", to)
	b.refused(1, "no such restore point", "restore", "1999-01-01", "anna", to)
	b.refused(2, "for example", "restore", "11/20/2026", "anna", to)
	b.refused(2, "is not in the source", "restore", "r1", "/etc", to)
}

func TestRestoreListAndOverwrite(t *testing.T) {
	b, old := twoPoints(t)
	to := t.TempDir()
	list := filepath.Join(to, "list")
	if err := os.WriteFile(list, []byte(b.source+"/gone/deep/1\x00anna/2\x00gone/deep\x00nothing\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	back := filepath.Join(to, "back")
	if err := os.Mkdir(back, 0o700); err != nil {
		t.Fatal(err)
	}
	b.refused(1, fmt.Sprintf("restore %q: r1 has no \"nothing\"\n  next: snapdiff find GLOB", filepath.Join(back, "nothing")), "restore", "r1", "--files-from", list, "--from0", back)
	sameTrees(t, filepath.Join(old, "gone"), filepath.Join(back, "gone"))
	if out, err := exec.Command("sh", "-ec", "cmp "+old+"/anna/2 "+back+"/anna/2; test ! -e "+back+"/anna/1; cd "+back+"/gone; echo mine > other; echo changed > deep/1").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	b.refused(1, "--overwrite", "restore", "r1", "gone", back)
	b.must(os.WriteFile(list, []byte("anna/2\ngone/deep/1\n"), 0o600))
	if out := b.snapdiff(1, "restore", "r1", "--files-from", list, back); strings.Count(out, "nothing is overwritten\n") != 2 || strings.Count(out, "next: ") != 1 {
		t.Errorf("of two files that are there already it says\n%s", out)
	}
	full := applytest.MountSized(t, applytest.Ext4, 16<<20)
	b.sh("head -c 30000000 /dev/urandom > $S/big")
	b.silent("run")
	b.refused(1, fmt.Sprintf("restore %q: no space left on device\n  next: make room on the filesystem of %s", filepath.Join(full, "big"), full), "restore", "latest", "big", full)
	b.snapdiff(0, "restore", "r1", "gone", back, "--overwrite")
	sameTrees(t, filepath.Join(old, "gone/deep"), filepath.Join(back, "gone/deep"))
	if text, err := os.ReadFile(filepath.Join(back, "gone/other")); err != nil || string(text) != "mine\n" {
		t.Errorf("what was there beside it: %q %v", text, err)
	}
	b.refused(2, "", "restore", "r1", "--files-from", list, back, "too much")
}

// Names are bytes: --files-from takes every one of them with -0, and what cannot be restored is named.
func TestRestoreListOfOddNames(t *testing.T) {
	b := newJobBench(t, "")
	odd := []string{"a b", "new\nline", "-dash", "*", "\xff\xfe", " ", "tab\t", "quote'\"", "dir with\nline/" + strings.Repeat("x", 255), "%s\\x"}
	b.write(odd...)
	b.snapdiff(0, "init")
	b.silent("run")
	b.sh("cp -a $S $STORE.old; cd $S; find . -mindepth 1 -path ./.snapdiff -prune -o -mindepth 1 -exec rm -rf {} +")
	b.silent("run")
	to := t.TempDir()
	if status, _, said := b.program("A=", strings.Join(odd, "\x00")+"\x00", "restore", "r1", "--files-from", "-", "-0", to); status != 0 {
		t.Fatalf("status %d:\n%s", status, said)
	}
	sameTrees(t, filepath.Join(b.store+".old", "dir with\nline"), filepath.Join(to, "dir with\nline"))
	for _, name := range odd {
		if text, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(text) != name {
			t.Errorf("%q: %q %v", name, text, err)
		}
	}
	b.must(os.WriteFile(filepath.Join(to, "a b"), []byte("mine"), 0o600))
	status, _, said := b.program("A=", "a b\n./-dash/\nnot there\n", "restore", "r1", "--files-from", "-", to)
	if status != 1 || strings.Count(said, "nothing is overwritten") != 2 || !strings.Contains(said, `"not there"`) {
		t.Errorf("status %d:\n%s", status, said)
	}
	if text, err := os.ReadFile(filepath.Join(to, "a b")); err != nil || string(text) != "mine" {
		t.Errorf("what was there: %q %v", text, err)
	}
}

func TestMountCommand(t *testing.T) {
	b, old := twoPoints(t)
	t.Setenv(asProgram, "1")
	for date, want := range map[string]string{"r1": old, "today": b.source} {
		dir := t.TempDir()
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		if out := b.snapdiff(0, "mount", date, dir); !strings.HasSuffix(out, dir+"\n") {
			t.Errorf("mount does not print the directory: %s", out)
		}
		sameTrees(t, want, dir)
		b.refused(2, dir+" is mounted already\n  next: it can be used", "mount", date, dir)
		b.silent("umount", dir)
		b.refused(2, "no mount", "umount", dir)
		b.must(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
		b.refused(2, dir+" is not empty\n  next: name an empty directory", "mount", date, dir)
	}
	b.refused(1, "no such restore point", "mount", "r9", t.TempDir())
}

func TestMountAllCommand(t *testing.T) {
	b, old := twoPoints(t)
	t.Setenv(asProgram, "1")
	dir := t.TempDir()
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	b.snapdiff(0, "mount", "--all", dir)
	dates := func() (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				names = append(names, e.Name())
			}
		}
		return names
	}
	names := dates()
	if len(names) != 2 {
		t.Fatalf("%q, want two dates", names)
	}
	sameTrees(t, old, filepath.Join(dir, names[0]))
	sameTrees(t, b.source, filepath.Join(dir, "latest"))
	if text, err := os.ReadFile(filepath.Join(dir, "README")); err != nil || !strings.Contains(string(text), "restore point") {
		t.Errorf("README: %q %v", text, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "1999-01-01T00:00:00")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a date that is not there: %v", err)
	}
	b.configure("keep = { last = 1 }")
	if out := b.snapdiff(0, "prune"); !strings.Contains(out, "in use") {
		t.Errorf("what was just looked at was dropped:\n%s", out)
	}
	b.configure("")
	b.write("anna/3")
	b.snapdiff(0, "run")
	if names := dates(); len(names) != 3 {
		t.Errorf("%q: the new restore point does not appear", names)
	}
	sameTrees(t, old, filepath.Join(dir, names[0]))
	b.snapdiff(0, "umount", dir)
}

func TestSourcePath(t *testing.T) {
	j := config.Job{Name: "mail", Source: "/srv/mail"}
	for path, want := range map[string]string{
		"/srv/mail/anna/17": "anna/17", "/srv/mail": "", "/srv/mail/": "", "anna/./17/": "anna/17", ".": "", "..x": "..x", "/srv/mail/\xff\n": "\xff\n",
	} {
		if got, err := sourcePath(j, path); err != nil || got != want {
			t.Errorf("%q: %q %v, want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"", "..", "../other", "/srv/mail2/x", "/", "anna/../../x"} {
		if got, err := sourcePath(j, path); err == nil {
			t.Errorf("%q: %q, want a refusal", path, got)
		}
	}
}

func TestPruneCommand(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a")
	b.snapdiff(0, "init")
	b.snapdiff(0, "run")
	for i := range 4 {
		b.write(fmt.Sprint(i))
		if err := os.WriteFile(filepath.Join(b.source, "a"), bytes.Repeat([]byte{byte(i)}, 20000), 0o600); err != nil {
			t.Fatal(err)
		}
		b.snapdiff(0, "run")
	}
	b.refused(1, "every restore point stays", "prune")
	b.configure("keep = { last = 2 }")
	dry := b.snapdiff(0, "prune", "--dry-run")
	for _, want := range []string{"\tdrop\tno rule keeps it\t", "r4\t", "\tkeep\tnewest, last\t"} {
		if strings.Count(dry, "\n") != 5 || !strings.Contains(dry, want) {
			t.Errorf("prune --dry-run has no %q:\n%s", want, dry)
		}
	}
	if out := b.snapdiff(0, "list"); strings.Count(out, "\n") != 5 || !strings.Contains(out, " KB\t") {
		t.Errorf("a dry run dropped something, or list shows no space:\n%s", out)
	}
	if out := b.snapdiff(0, "prune"); out != dry {
		t.Errorf("prune:\n%s\nforetold:\n%s", out, dry)
	}
	b.snapdiff(0, "run")
	if out := b.snapdiff(0, "list"); strings.Count(out, "\n") != 2 || !strings.Contains(out, "r6") {
		t.Errorf("the run did not drop r4:\n%s", out)
	}
	if out := b.snapdiff(0, "prune", "--json"); !strings.Contains(out, `"why":["newest","last"]`) {
		t.Errorf("prune --json: %s", out)
	}
}

// erase asks first, and afterwards nothing in the store has what was erased.
func TestEraseAsksFirst(t *testing.T) {
	b := newJobBench(t, "")
	secret := strings.Repeat("the secret of the letter ", 400)
	b.write("keep")
	b.must(os.WriteFile(filepath.Join(b.source, "letter"), []byte(secret), 0o600))
	b.snapdiff(0, "init")
	b.silent("run")
	b.sh("echo other > $S/letter")
	b.silent("run")
	b.sh("rm $S/letter")
	b.silent("run")
	for _, answer := range []string{"", "no\n", "y\n", "yes, why not\n"} {
		status, out, said := b.program("A=", answer, "erase", "letter")
		if status != 1 || !strings.Contains(out, "is in 2 restore points: r1, r2\n") || !strings.Contains(out, `Type "yes"`) || !strings.Contains(said, "nothing was erased") {
			t.Errorf("answer %q: status %d:\n%s%s", answer, status, out, said)
		}
	}
	to := t.TempDir()
	b.snapdiff(0, "restore", "r1", "letter", to)
	if text, err := os.ReadFile(filepath.Join(to, "letter")); err != nil || string(text) != secret {
		t.Errorf("it is not there as it was: %d bytes, %v", len(text), err)
	}
	if status, out, said := b.program("A=", "yes\n", "erase", "letter"); status != 0 {
		t.Errorf("status %d:\n%s%s", status, out, said)
	}
	b.refused(1, "r1 has no \"letter\"", "restore", "r1", "letter", filepath.Join(to, "again"))
	b.refused(1, "no restore point has it", "log", "letter")
	if out, err := exec.Command("grep", "-rlaE", "secret of the|letter", b.store).CombinedOutput(); err == nil {
		t.Errorf("the store still has something of it:\n%s", out)
	}
	b.checkCatalog()
}

// objects is the space that the replaced and deleted files of each run take up in the store, in bytes.
func (b *jobBench) objects() map[string]int64 {
	b.t.Helper()
	space := map[string]int64{}
	found, err := filepath.Glob(filepath.Join(b.store, "history/r*/[0-9]*"))
	b.must(err)
	for _, path := range found {
		var st unix.Stat_t
		b.must(unix.Lstat(path, &st))
		space[filepath.Base(filepath.Dir(path))] += st.Blocks * 512
	}
	return space
}

// What list says that each run's history takes up, and prune --dry-run that it frees, is what is there and what is freed.
func TestSpaceIsWhatIsSaid(t *testing.T) {
	b := newJobBench(t, "")
	b.store = filepath.Join(applytest.Mount(t, applytest.Ext4), "store") // one that does not change its mind about blocks
	b.configure("")
	b.snapdiff(0, "init")
	for i := range 6 {
		b.sh(fmt.Sprintf("cd $S; head -c %d000 /dev/urandom > a; head -c 70000 /dev/urandom > b%d; rm -f b%d; echo %d > small", 100+50*i, i, i-2, i))
		b.silent("run")
	}
	want := b.objects()
	type row struct {
		Run     string
		Keep    bool
		Frees   int64
		History int64 `json:"history_bytes"`
	}
	rows := func(args ...string) (all []row) {
		for line := range strings.Lines(b.stdout(0, append(args, "--json")...)) {
			var r row
			b.must(json.Unmarshal([]byte(line), &r))
			all = append(all, r)
		}
		return all
	}
	for _, r := range rows("list") {
		if r.History != want[r.Run] {
			t.Errorf("list says that %s takes up %d bytes, and it is %d", r.Run, r.History, want[r.Run])
		}
	}
	sum := func(space map[string]int64) (all int64) {
		for _, bytes := range space {
			all += bytes
		}
		return all
	}
	for _, keep := range []string{"last = 5", "last = 2", "last = 1"} {
		b.configure("keep = { " + keep + " }")
		before, said, dropped := sum(b.objects()), int64(0), 0
		for _, r := range rows("prune", "--dry-run") {
			if said += r.Frees; !r.Keep {
				dropped++
			}
		}
		if now := sum(b.objects()); now != before {
			t.Errorf("%s: a dry run freed %d bytes", keep, before-now)
		}
		b.snapdiff(0, "prune")
		if freed := before - sum(b.objects()); freed != said || freed < 70000 || dropped == 0 {
			t.Errorf("%s: %d bytes are freed by dropping %d, %d were foretold", keep, freed, dropped, said)
		}
	}
	b.configure("")
	b.checkCatalog()
}

// Where the mirror's filesystem clones, a large file of which little changed takes up in history what changed, though each of its versions
// is there as a whole.
func TestSpaceOfClones(t *testing.T) {
	const changed = 16 << 10
	for _, kind := range []applytest.Kind{applytest.XFS, applytest.Btrfs} {
		t.Run(string(kind), func(t *testing.T) {
			b := newJobBench(t, "")
			b.store = filepath.Join(applytest.Mount(t, kind), "store")
			b.configure("")
			b.snapdiff(0, "init")
			b.sh("head -c 8M /dev/urandom > $S/large")
			b.silent("run")
			for i := range 5 {
				b.sh(fmt.Sprintf("dd if=/dev/urandom of=$S/large bs=16k count=1 seek=%d conv=notrunc status=none", 7*i))
				b.silent("run")
			}
			space := func() (of []int64) {
				for line := range strings.Lines(b.stdout(0, "list", "--json")) {
					var r struct {
						History int64 `json:"history_bytes"`
					}
					b.must(json.Unmarshal([]byte(line), &r))
					of = append(of, r.History)
				}
				return of
			}
			if got, want := space(), []int64{0, changed, changed, changed, changed, changed}; !slices.Equal(got, want) {
				t.Errorf("list says that the history of the runs takes up %d, want %d", got, want)
			}
			b.configure("keep = { last = 5 }")
			b.snapdiff(0, "prune")
			want := []int64{0, changed, changed, changed, changed}
			if kind == applytest.Btrfs { // it frees no part of an extent
				want[0] = changed
			}
			if got := space(); !slices.Equal(got, want) {
				t.Errorf("after dropping the first one it is %d, want %d", got, want)
			}
			b.equal()
			b.checkCatalog()
		})
	}
}

func TestEraseCommand(t *testing.T) {
	b, old := twoPoints(t)
	b.refused(1, `erase "anna": it is still there in the newest restore point: delete it in the source`, "erase", "anna", "--yes")
	if out := b.snapdiff(0, "erase", b.source+"/gone", "--dry-run"); !strings.Contains(out, "1 restore points: r1") {
		t.Errorf("erase --dry-run: %s", out)
	}
	if out := b.snapdiff(0, "erase", "gone", "--dry-run", "--json"); !strings.HasPrefix(out, `{"job":"mail","path":"gone","runs":["r1"],`) {
		t.Errorf("erase --json: %s", out)
	}
	if out := b.snapdiff(0, "erase", "bert", "--dry-run"); !strings.HasSuffix(out, "under other names it stays; erase these too:\n  carl (r2)\n") {
		t.Errorf("erase --dry-run of a directory that moved: %s", out)
	}
	if out := b.snapdiff(0, "erase", "bert", "--dry-run", "--json"); !strings.Contains(out, `"elsewhere":[{"path":"carl","restore_points":"r2"}]`) {
		t.Errorf("erase --json: %s", out)
	}
	b.refused(1, `erase ".": that is everything`, "erase", ".")
	b.refused(1, "nothing was erased", "erase", "gone") // standard input is empty
	b.snapdiff(0, "erase", "gone", "--yes")
	b.refused(1, "no restore point has it", "erase", "gone", "--dry-run")
	to := filepath.Join(t.TempDir(), "r1")
	b.snapdiff(0, "restore", "r1", b.source, to)
	if err := os.RemoveAll(filepath.Join(old, "gone")); err != nil {
		t.Fatal(err)
	}
	b.sh("mkdir $S/sdir; echo x > $S/sdir/s1; ln $S/sdir/s1 $S/sdir/s2; ln $S/sdir/s1 $S/elsewhere; echo y > $S/sdir/y")
	b.silent("run")
	b.sh("rm -r $S/sdir")
	b.silent("run")
	if out := b.snapdiff(0, "erase", "sdir/s2", "--dry-run"); !strings.HasSuffix(out, "erase these too:\n  elsewhere (r3, r4)\n  sdir/s1 (r3)\n") {
		t.Errorf("erase --dry-run of a file with several names: %s", out)
	}
	if out := b.snapdiff(0, "erase", "sdir", "--dry-run"); !strings.HasSuffix(out, "erase these too:\n  elsewhere (r3, r4)\n") {
		t.Errorf("erase --dry-run of a directory with such files: %s", out)
	}
	b.snapdiff(0, "erase", "sdir/y", "--yes")
	sameTrees(t, filepath.Join(old, "anna"), filepath.Join(to, "anna"))
	if _, err := os.Lstat(filepath.Join(to, "gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was restored: %v", err)
	}
}

// TestUmountAll ends every mount, in a mount namespace of its own: it must not end those of tests that run beside it. Without a
// directory they are below /run/snapdiff.
func TestUmountAll(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a")
	b.snapdiff(0, "init")
	b.silent("run")
	dir := t.TempDir()
	script := `set -e; cd "$1"; mkdir one two; mkdir -p /run/snapdiff; mount -t tmpfs none /run/snapdiff
		"$2" --config "$3" mount r1 one; "$2" --config "$3" mount --all two
		test "$(cat one/a)" = a; test "$(cat two/latest/a)" = a
		test "$("$2" --config "$3" mount latest)" = /run/snapdiff/mail/r1; test "$("$2" --config "$3" mount --all)" = /run/snapdiff/mail/all
		test "$(cat /run/snapdiff/mail/r1/a /run/snapdiff/mail/all/latest/a)" = aa
		"$2" --config "$3" umount /run/snapdiff/mail/r1; test ! -e /run/snapdiff/mail/r1; "$2" --config "$3" mount r1
		"$2" --config "$3" mount latest 2>&1 | grep -q "/run/snapdiff/mail/r1 is mounted already"
		for p in /proc/[0-9]*; do
			if tr '\0' ' ' < $p/cmdline | grep -q -- "--config $3 .* r1 /run/snapdiff/mail/r1 "; then kill -9 ${p#/proc/}; fi
		done
		while cat /run/snapdiff/mail/r1/a 2>&1 | grep -qv "not connected"; do sleep 0.05; done
		"$2" --config "$3" mount latest 2>&1 | grep -q "next: snapdiff umount /run/snapdiff/mail/r1"
		"$2" --config "$3" umount /run/snapdiff/mail/r1; test "$("$2" --config "$3" mount latest)" = /run/snapdiff/mail/r1
		"$2" --config "$3" umount --all
		! grep -q "fuse.snapdiff" /proc/self/mounts; rmdir one two; test -z "$(ls /run/snapdiff/mail)"; echo all gone`
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "bash", "-c", script, "umount", dir, program, b.config)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "all gone\n") {
		t.Errorf("%v:\n%s", err, out)
	}
}
