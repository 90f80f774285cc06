package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"snapdiff/apply"
	"snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/btrfs"
)

var uuid = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// TestRunOptions has all that can be asked of a run, each with a source of its own on one btrfs.
func TestRunOptions(t *testing.T) {
	fs := applytest.Mount(t, applytest.Btrfs)
	for name, test := range map[string]func(*jobBench){
		"held": heldRun, "heldAgain": heldAgain, "heldBehindRepair": heldBehindRepair, "replacedIsNotDeleted": replacedIsNotDeleted, "dryRun": dryRun, "foreign": foreignSnapshots,
		"newSource": newSource, "adopt": adopt, "lostBase": lostBase, "alteredBase": alteredBase, "rolledBack": rolledBack, "rolledBackInside": rolledBackInside, "alteredMirror": alteredMirror, "nested": nested, "several": severalJobs,
	} {
		t.Run(name, func(t *testing.T) {
			b := newJobBenchOn(t, fs, "")
			store := b.store
			test(b)
			b.store = store
			b.checkCatalog()
		})
	}
}

// begin makes the store and a first run of these files.
func (b *jobBench) begin(names ...string) {
	b.t.Helper()
	b.write(names...)
	b.snapdiff(0, "init")
	b.silent("run")
	b.equal()
}

// sh runs a shell script in the directory that holds the source.
func (b *jobBench) sh(script string) {
	b.t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = b.fs
	cmd.Env = append(os.Environ(), "S="+b.source, "STORE="+b.store)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// untouched wants the mirror to have a file.
func (b *jobBench) untouched(name string) {
	b.t.Helper()
	if _, err := os.Lstat(filepath.Join(b.store, "tree", name)); err != nil {
		b.t.Errorf("the mirror was touched: %v", err)
	}
}

func (b *jobBench) wantSnapshots(n int, which string) {
	b.t.Helper()
	if got := b.snapshots(); got != n {
		b.t.Errorf("%d snapshots are left, want %d: %s", got, n, which)
	}
}

// lastRun is the newest line of list --json.
func (b *jobBench) lastRun() (r struct{ Run, How, Reason, Time string }) {
	b.t.Helper()
	lines := strings.Split(strings.TrimSpace(b.snapdiff(0, "list", "--json")), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		b.t.Fatal(err)
	}
	return r
}

// wantFull makes a run that has to compare in full and say why.
func (b *jobBench) wantFull(reason string, args ...string) {
	b.t.Helper()
	b.refused(0, reason, append([]string{"run"}, args...)...)
	if r := b.lastRun(); r.How != "full" || !strings.Contains(r.Reason, reason) {
		b.t.Errorf("list: %+v, want a full comparison because of %q", r, reason)
	}
	b.equal()
}

func heldRun(b *jobBench) {
	b.configure("max_deleted = 2")
	b.begin("d/1", "d/2", "d/3", "keep", "e/1")
	b.sh("rm -r $S/d")
	b.refused(5, "r2 is held: 3 of 5 files would be deleted", "run")
	b.untouched("d/3")
	b.wantSnapshots(2, "the base and that of the held run")
	b.refused(0, "r2 is held: 3 of 5 files would be deleted, more than max_deleted = 2", "status")
	if out := b.snapdiff(5, "run", "--json"); !strings.Contains(out, `"deleted":3`) || !strings.Contains(out, `"run":"r3"`) || !strings.Contains(out, `"state":"held"`) {
		b.t.Errorf("run --json: %s", out)
	}
	b.refused(1, "r2 is not held; r3 is", "run", "--approve", "r2")
	b.refused(2, "the id of the held run", "run", "--approve", "17")
	if out := b.snapdiff(0, "run", "--approve", "r3", "--dry-run"); !strings.Contains(out, "- d/3\n") {
		b.t.Errorf("what would go is not shown:\n%s", out)
	}
	// What was approved goes through, and nothing that happened since.
	b.sh("rm $S/e/1; touch $S/new")
	b.silent("run", "--approve", "r3")
	b.untouched("e/1")
	if _, err := os.Lstat(filepath.Join(b.store, "tree/d")); err == nil {
		b.t.Error("the approved run did not go through")
	}
	if r := b.lastRun(); r.Run != "r3" {
		b.t.Errorf("the run was approved as r3 and is %s", r.Run)
	}
	b.wantSnapshots(1, "the base")
	b.refused(1, "r3 is not held: no run is", "run", "--approve", "r3")
	b.silent("run")
	b.equal()
}

func heldAgain(b *jobBench) {
	b.configure(`max_deleted = 1`)
	b.begin("1", "2", "3", "4")
	b.sh("rm $S/1 $S/2")
	b.refused(5, "r2 is held", "run")
	b.sh("rm $S/3")
	b.refused(5, "r3 is held: 3 of 4", "run")
	b.wantSnapshots(2, "the base and the last held run's")
	b.write("1", "2") // the administrator brings back what was lost
	b.silent("run")
	b.equal()
	b.refused(1, "no run is", "run", "--approve", "r3")
	b.wantSnapshots(1, "the base")
}

// heldBehindRepair: a repair is no run. What was held before it can be approved after it.
func heldBehindRepair(b *jobBench) {
	b.configure("max_deleted = 0")
	b.begin("1", "2")
	b.sh("rm $S/1")
	b.refused(5, "r2 is held", "run")
	b.sh("echo theirs > $STORE/tree/2")
	b.snapdiff(0, "verify", "--repair")
	b.silent("run", "--approve", "r2")
	b.equal()
}

// A file that another one takes the place of is not deleted, and neither is one that moves.
func replacedIsNotDeleted(b *jobBench) {
	b.configure("max_deleted = 0")
	b.begin("a", "b", "d/c", "d/l")
	b.sh("cd $S; for f in a b d/c; do echo other > tmp; mv tmp $f; done; mv d e; mv e/c f; mv f e/c; ln e/l e/m; rm e/l; mkdir d")
	b.silent("run")
	b.equal()
	b.sh("rm $S/e/m")
	b.refused(5, "1 of 4 files", "run")
}

func dryRun(b *jobBench) {
	b.write("a/1", "a/2", "b/1")
	b.snapdiff(0, "init")
	b.refused(0, "copy everything", "run", "--dry-run")
	b.wantSnapshots(0, "none")
	b.silent("run")
	b.sh("cd $S; rm a/1; mv b c; touch new; chmod 600 a/2")
	before := b.snapdiff(0, "list", "--json")
	out := b.snapdiff(0, "run", "--dry-run")
	for _, line := range []string{"- a/1\n", "R b/ -> c/\n", "+ new\n", "M a/2 (metadata)\n"} {
		if !strings.Contains(out, line) {
			b.t.Errorf("%q is missing:\n%s", line, out)
		}
	}
	if out := b.snapdiff(0, "run", "-n", "--json"); !strings.Contains(out, `"kind":"renamed"`) || !strings.Contains(out, `"state":"pending"`) {
		b.t.Errorf("run --dry-run --json:\n%s", out)
	}
	b.untouched("a/1")
	b.wantSnapshots(1, "the base")
	if after := b.snapdiff(0, "list", "--json"); after != before {
		b.t.Errorf("a dry run is listed:\n%s", after)
	}
}

// foreignSnapshots imports a month of snapshots that another program made.
func foreignSnapshots(b *jobBench) {
	snaps := b.source + ".snaps"
	b.snapdiff(0, "init")
	b.sh("mkdir " + snaps)
	var taken []time.Time
	for day := range 4 {
		b.write(fmt.Sprintf("day%d", day), "again")
		b.sh(fmt.Sprintf("echo %d > $S/again; btrfs -q subvolume snapshot -r $S %s/%d", day, snaps, day))
		taken = append(taken, time.Now())
	}
	for _, day := range []int{0, 1, 3} {
		b.silent("run", "--snapshot", fmt.Sprintf("%s/%d", snaps, day))
		sameTrees(b.t, fmt.Sprintf("%s/%d", snaps, day), filepath.Join(b.store, "tree"))
	}
	b.refused(1, "is older than the restore point r3", "run", "--snapshot", snaps+"/2")
	b.refused(1, "is the state of the restore point r3", "run", "--snapshot", snaps+"/3")
	b.refused(1, "not a read-only snapshot", "run", "--snapshot", b.source)
	b.refused(1, "no such file", "run", "--snapshot", snaps+"/none")
	b.sh("btrfs -q subvolume create other; btrfs -q subvolume snapshot -r other " + snaps + "/other")
	b.refused(1, "is a snapshot of another subvolume", "run", "--snapshot", snaps+"/other")
	b.wantSnapshots(1, "the base")
	r := b.lastRun()
	date, err := time.Parse(time.RFC3339Nano, r.Time)
	if err != nil || r.How != "native" || date.After(taken[3]) || date.Before(taken[2].Add(-time.Second)) {
		b.t.Errorf("the restore point is %+v, want the date of its snapshot, %v (%v)", r, taken[3], err)
	}
	b.sh("btrfs -q subvolume delete " + snaps + "/*") // they are their owner's, and he may expire them
	b.write("today")
	b.silent("run")
	b.equal()
	if r := b.lastRun(); r.How != "native" {
		b.t.Errorf("the run after the import: %+v", r)
	}
}

func newSource(b *jobBench) {
	b.configure(`on_lost_base = "stop"`)
	b.begin("old", "same")
	b.sh("mv $S $S.old; btrfs -q subvolume create $S")
	b.write("same", "new")
	out := b.snapdiff(1, "run")
	if ids := uuid.FindAllString(out, -1); len(ids) != 2 || ids[0] == ids[1] {
		b.t.Errorf("the two sources are not both shown:\n%s", out)
	}
	b.refused(1, "--accept-new-source", "run", "--dry-run")
	b.untouched("old")
	if out := b.snapdiff(0, "run", "--dry-run", "--accept-new-source"); !strings.Contains(out, "- old") || !strings.Contains(out, "+ new") {
		b.t.Errorf("what the new source brings is not shown:\n%s", out)
	}
	b.refused(1, "another source", "run")
	b.wantFull("another one", "--accept-new-source")
	b.silent("run")
	if out := b.snapdiff(0, "restore", "r1", "old", b.t.TempDir()); !strings.Contains(out, "r1") {
		b.t.Errorf("history is lost: %s", out)
	}
}

func adopt(b *jobBench) {
	b.write("same", "differs", "new", "dir/file")
	b.sh(`mkdir -p $STORE/tree; rsync -aHAX --exclude=/new $S/ $STORE/tree; echo old > $STORE/tree/differs; echo gone > $STORE/tree/gone; mkdir -p $STORE/tree/.snapdiff/old; echo x > $STORE/tree/.snapdiff/old/f`)
	inode := func() os.FileInfo {
		st, err := os.Lstat(filepath.Join(b.store, "tree/same"))
		if err != nil {
			b.t.Fatal(err)
		}
		return st
	}
	before := inode()
	b.refused(1, "not empty", "init")
	b.snapdiff(0, "init", "--adopt")
	b.wantFull("was adopted")
	if !os.SameFile(before, inode()) {
		b.t.Error("an equal file was copied")
	}
	b.write("later")
	b.silent("run")
	b.equal()
	b.store += ".none"
	b.configure("")
	b.refused(1, "no copy to adopt", "init", "--adopt")
}

// checkCatalog checks the whole store.
func (b *jobBench) checkCatalog() {
	b.t.Helper()
	store, err := apply.Open(b.store)
	if err != nil {
		b.t.Fatal(err)
	}
	defer store.Close()
	wrong, err := store.CheckCatalog()
	if err != nil || len(wrong) > 0 {
		b.t.Errorf("catalog: %q %v", wrong, err)
	}
}

func lostBase(b *jobBench) {
	b.configure(`on_lost_base = "stop"`)
	b.begin("file")
	b.sh("btrfs -q subvolume delete $S/.snapdiff/*")
	b.write("new/file")
	b.refused(1, "gone", "run")
	b.refused(1, "--full", "run")
	b.wantSnapshots(0, "none")
	b.wantFull("--full", "--full")
	b.silent("run")

	b.sh("btrfs -q subvolume delete $S/.snapdiff/*")
	b.write("new/other")
	b.configure("")
	b.wantFull("gone")
	b.write("new/third")
	b.silent("run")
	b.equal()
}

func alteredBase(b *jobBench) {
	b.begin("file")
	b.sh(`for s in $S/.snapdiff/*; do btrfs property set $s ro false; echo x > $s/file; btrfs property set $s ro true; done`)
	b.configure(`on_lost_base = "stop"`)
	b.refused(1, "altered", "run")
	b.configure("")
	b.wantFull("altered")
	b.silent("run")
}

// rolledBack is the source replaced by a snapshot of itself that is older than the base: changes by transaction numbers would
// be missed.
func rolledBack(b *jobBench) {
	b.configure(fmt.Sprintf("snapshots = %q", b.source+".snaps")) // the base stays where it is
	b.write("file")
	b.sh("btrfs -q subvolume snapshot -r $S $S.before")
	b.snapdiff(0, "init")
	b.silent("run")
	b.sh("echo later > $S/file; touch $S/more")
	b.silent("run")
	b.sh("mv $S $S.gone; btrfs -q subvolume snapshot $S.before $S")
	b.refused(1, "another source", "run")
	b.wantFull("another one", "--accept-new-source")
	b.silent("run")
	b.equal()
}

// rolledBackInside is rolledBack where the snapshots lie in the source, as they do when nothing is configured: each of them has empty directories in the places
// of those that were there when it was taken, and so has what is made of it.
func rolledBackInside(b *jobBench) {
	b.begin("file")
	b.sh("btrfs -q subvolume snapshot -r $S $S.before; echo later > $S/file")
	b.silent("run")
	b.sh("mv $S $S.gone; btrfs -q subvolume snapshot $S.before $S; ls -d $S/.snapdiff/snapdiff-*")
	b.wantFull("another one", "--accept-new-source")
	b.silent("run")
	b.equal()
}

// alteredMirror is one that somebody has worked in. The run that meets it brings it back at once, and history knows nothing of it.
func alteredMirror(b *jobBench) {
	b.begin("d/a", "d/b", "keep", "g/1", "went")
	b.sh("echo r1 > $S/keep; echo r1 > $S/d/a")
	b.silent("run")
	was := b.restored("r2")
	b.sh("rm $STORE/tree/d/a; rm -r $STORE/tree/g; echo theirs > $STORE/tree/keep; echo theirs > $STORE/tree/went; cd $S; mv g h; mv d e; echo more >> $S/e/a; rm went")
	b.refused(0, "the mirror was altered", "run")
	b.equal()
	if r := b.lastRun(); r.How != "native" || r.Run != "r3" {
		b.t.Errorf("list: %+v, want nothing after r3", r)
	}
	if now := b.restored("r2"); now != was {
		b.t.Errorf("r2 was\n%s\nis\n%s", was, now)
	}
	b.silent("run")
	was = b.restored("r4")
	b.sh("rm $STORE/tree/e/a; echo theirs > $STORE/tree/keep")
	b.snapdiff(0, "doctor", "--repair")
	b.write("new")
	b.refused(0, "again what it was at r4", "run")
	b.equal()
	if r := b.lastRun(); r.How != "native" || r.Run != "r5" {
		b.t.Errorf("list: %+v, want r5 to be a native run", r)
	}
	if now := b.restored("r4"); now != was {
		b.t.Errorf("r4 was\n%s\nis\n%s", was, now)
	}
	b.silent("verify")

	b.configure(`on_lost_base = "stop"`)
	b.sh("rm $STORE/tree/e/a; echo more >> $S/e/a")
	b.refused(1, "--full", "run")
	b.refused(1, "--full", "run")
	b.check(0, "the mirror was altered", "next: snapdiff run mail --full")
	b.wantFull("--full", "--full")
	b.silent("run")
}

// nested is a subvolume in the source: it is not followed. That is said once, also where it takes the place of a directory that the mirror had, by check,
// and by each run that tells more. Snapshots are no data of their own, and what is excluded nobody misses.
func nested(b *jobBench) {
	b.write("file", "dir/f")
	b.sh("btrfs -q subvolume create $S/inner; touch $S/inner/x; btrfs -q subvolume create $S/not; btrfs -q subvolume snapshot -r $S/not $S/past")
	b.configure(`exclude = ["/not"]`)
	b.snapdiff(0, "init")
	if out := b.snapdiff(0, "run", "--json"); !strings.Contains(out, `"skipped":[{"path":"inner"},{"path":"past"}]`) || !strings.Contains(out, "nested subvolume inner is not followed") {
		b.t.Errorf("the first run does not say what it did not follow:\n%s", out)
	}
	b.silent("run")
	b.sh("mv $S/dir $S/dir.old; btrfs -q subvolume create $S/dir; mv $S/dir.old/f $S/dir/; rmdir $S/dir.old")
	if out := b.snapdiff(0, "run"); !strings.Contains(out, "nested subvolume dir is not followed, so nothing in it is in the mirror: give it a job") || strings.Contains(out, "inner") {
		b.t.Errorf("a directory became a subvolume, and the run says:\n%s", out)
	}
	b.silent("run")
	b.sh("mv $S/inner $S/outer")
	for _, command := range [][]string{{"run", "-v"}, {"run", "-v"}, {"check"}} {
		if out := b.snapdiff(0, command...); !strings.Contains(out, "nested subvolume outer is not followed") || strings.Contains(out, "not is") || strings.Contains(out, "past") {
			b.t.Errorf("%q does not say what is not followed:\n%s", command, out)
		}
	}
	b.configure("recursive = true")
	b.snapdiff(0, "run")
	if out := b.snapdiff(0, "check"); strings.Contains(out, "not followed") {
		b.t.Errorf("all is followed, and check says:\n%s", out)
	}
}

// severalJobs are run in the order of their names; one that fails does not keep the others from running.
func severalJobs(b *jobBench) {
	b.write("file")
	config := fmt.Sprintf("[jobs.a]\nsource = %q\nstore = %q\n[jobs.mail]\nsource = %q\nstore = %q\n", b.source+".none", b.store+".a", b.source, b.store)
	if err := os.WriteFile(b.config, []byte(config), 0o600); err != nil {
		b.t.Fatal(err)
	}
	for _, command := range []string{"init", "run"} {
		if out := b.snapdiff(1, command); !strings.Contains(out, "a: source") || strings.Contains(out, "mail: source") {
			b.t.Errorf("%s:\n%s", command, out)
		}
	}
	b.equal()
	b.refused(2, "about one job", "run", "--accept-new-source")
	b.refused(2, `no job "male"`, "run", "male")
}

// A run that was cut off and whose snapshot somebody deleted is undone, and the next one compares in full.
func TestCutRunWithoutItsSnapshot(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a/1", "b/2", "b/3", "c/4")
	b.snapdiff(0, "init")
	b.silent("run")
	if err := os.Rename(filepath.Join(b.source, "b"), filepath.Join(b.source, "moved")); err != nil {
		t.Fatal(err)
	}
	b.write("a/1", "new/5")
	b.cutRun("mark", "attach directory", "build")
	b.snapdiff(0, "run")
	b.equal()
	out := b.snapdiff(0, "list")
	if !strings.Contains(out, "full") || strings.Contains(out, "r2") || !strings.Contains(out, "r3") {
		t.Errorf("runs:\n%s", out)
	}
	to := filepath.Join(t.TempDir(), "restored")
	b.snapdiff(0, "restore", "r1", "b", to)
	if text, err := os.ReadFile(filepath.Join(to, "2")); err != nil || string(text) != "b/2" {
		t.Errorf("restored: %q, %v", text, err)
	}
}

// cutRun makes a run that is cut off before the last of these steps, met in this order, and deletes its snapshot.
func (b *jobBench) cutRun(steps ...string) {
	b.t.Helper()
	store, err := apply.Open(b.store)
	if err != nil {
		b.t.Fatal(err)
	}
	defer store.Close()
	last, _, err := store.Last()
	if err != nil {
		b.t.Fatal(err)
	}
	next, err := btrfs.Create(b.source, b.fs, "snapdiff-cut")
	if err != nil {
		b.t.Fatal(err)
	}
	from, err := beneath.Open(last.Mark.Path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer from.Close()
	to, err := beneath.Open(next.Path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer to.Close()
	changes, err := btrfsfeed.Diff(context.Background(), from, to, last.Mark.Trans, diff.Options{Exclude: diff.MustExclude("/.snapdiff")})
	if err != nil {
		b.t.Fatal(err)
	}
	cut := errors.New("cut off")
	_, err = store.Apply(context.Background(), apply.Run{Changes: changes, Base: from, Next: to, BaseMark: last.Mark, Mark: next, How: "native"},
		apply.Options{Step: func(step string) error {
			if len(steps) > 0 && step == steps[0] {
				steps = steps[1:]
			}
			if len(steps) == 0 {
				return cut
			}
			return nil
		}})
	if !errors.Is(err, cut) {
		b.t.Fatal(err)
	}
	if err := btrfs.Destroy(b.fs, "snapdiff-cut"); err != nil {
		b.t.Fatal(err)
	}
}
