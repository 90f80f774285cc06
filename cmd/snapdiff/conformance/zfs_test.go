package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/output"
	"snapdiff/cmd/snapdiff/status"
)

// zfsLacks is what ZFS on Linux cannot do.
var zfsLacks = []Feature{NeedsSubvolumes, NeedsReflink, NeedsCollapse, NeedsZeroRange, NeedsPrealloc}

// zfsOrigin makes a dataset, with options of zfs create. Its snapshots show what it shows: to judge by one of them is enough.
func zfsOrigin(t testing.TB, options ...string) origin {
	t.Helper()
	pool, dir := ZFSPool(t)
	Dataset(t, pool+"/source", options...)
	return origin{source: pool + "/source", dir: filepath.Join(dir, "source")}
}

// zfsBench is a job with a small dataset whose life is told in a test.
func zfsBench(t *testing.T, options ...string) *bench {
	t.Helper()
	NeedZFS(t)
	return newBench(t, driver{name: "zfs", make: func(t testing.TB) origin {
		o := zfsOrigin(t, options...)
		o.live = true
		return o
	}}, Ext4)
}

// zfs runs the zfs program; SOURCE in its arguments is the dataset.
func (b *bench) zfs(args ...string) string {
	b.Helper()
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "SOURCE", b.origin.source)
	}
	return strings.TrimSpace(ZFS(b, args...))
}

// tryZFS is zfs for what cannot always be done.
func (b *bench) tryZFS(args ...string) (string, error) {
	b.Helper()
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "SOURCE", b.origin.source)
	}
	out, err := exec.Command("zfs", args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("zfs %q: %w: %s", args, err, out)
	}
	return string(out), err
}

// snapshots are the names of all snapshots of the source behind the '@', with the number of holds on each.
func (b *bench) snapshots() string {
	b.Helper()
	list := b.zfs("list", "-H", "-d1", "-t", "snapshot", "-s", "createtxg", "-o", "name,userrefs", "SOURCE")
	var out []string
	for line := range strings.Lines(list) {
		name, holds, _ := strings.Cut(strings.TrimSpace(line), "\t")
		name = name[strings.IndexByte(name, '@')+1:]
		if strings.HasPrefix(name, "snapdiff-") {
			name = "ours"
		}
		out = append(out, name+":"+holds)
	}
	return strings.Join(out, " ")
}

func (b *bench) haveSnapshots(want string) {
	b.Helper()
	if have := b.snapshots(); have != want {
		b.Errorf("snapshots and holds are %q, want %q", have, want)
	}
}

// full makes a run that has to compare in full and say why.
func (b *bench) full(why string) {
	b.Helper()
	if r := b.run(); r.How != "full" || !strings.Contains(r.Reason, why) {
		b.Errorf("the run compared %s, %q; want a full comparison because of %q", r.How, r.Reason, why)
	}
}

// fails makes a run that must fail with these words and a hint with those.
func (b *bench) fails(words, next string) {
	b.Helper()
	_, err := job.Run(b.Context(), b.job, job.Options{Say: b.Logf})
	if err == nil || !strings.Contains(err.Error(), words) || !strings.Contains(hint.Of(err), next) {
		b.Errorf("the run says %v and hints %q; want %q and %q", err, hint.Of(err), words, next)
	}
}

// TestZFSLife: a dataset is renamed, unmounted, given by its mount point, snapshots of others are imported; each run goes on.
func TestZFSLife(t *testing.T) {
	b := zfsBench(t, "-o", "xattr=dir", "-o", "recordsize=1M", "-o", "compression=off")
	Apply(t, b.origin.dir, Create("a", 3<<20, 1), Mkdir("d"), Create("d/x", 10, 1), SetXattr("a", "user.x", "1"), Create("m", 50000, 1))
	b.run()
	b.haveSnapshots("ours:1")

	b.zfs("snapshot", "SOURCE@admin") // renamed, not ours, with a child
	Apply(t, b.origin.dir, Append("a", 100, 2), SetXattr("a", "user.x", "2"), ACL("d", 7, 5), MmapWrite("m", 4000, 9000, 2))
	moved := strings.Replace(b.origin.source, "source", "moved", 1)
	b.zfs("rename", "SOURCE", moved)
	b.origin.source, b.job.Source = moved, moved
	b.origin.dir = filepath.Join(filepath.Dir(b.origin.dir), "moved")
	b.native()
	b.haveSnapshots("admin:0 ours:1")

	b.job.Source = b.origin.dir // by the mount point, under a name with a blank
	b.zfs("set", "mountpoint="+filepath.Dir(b.origin.dir)+"/a b", "SOURCE")
	b.origin.dir = filepath.Dir(b.origin.dir) + "/a b"
	b.job.Source = b.origin.dir
	Apply(t, b.origin.dir, Rename("d", "e"), Create("e/y", 1, 1))
	b.native()

	b.job.Source = b.origin.source // unmounted
	Apply(t, b.origin.dir, Remove("e/x"))
	b.zfs("set", "canmount=noauto", "SOURCE")
	b.zfs("set", "snapdir=hidden", "SOURCE")
	b.zfs("unmount", "SOURCE")
	b.origin.live = false
	b.native()
	b.zfs("mount", "SOURCE")
	b.origin.live = true

	// Others' snapshots serve as bases: named by sanoid, and by zrepl, which holds its own.
	const sanoid, zrepl = "autosnap_2026-11-28_00:00:02_daily", "zrepl_20261128_000002_000"
	b.zfs("snapshot", "SOURCE@"+sanoid)
	b.imports(b.origin.source + "@" + sanoid)
	b.haveSnapshots("admin:0 " + sanoid + ":1")
	Apply(t, b.origin.dir, Create("z", 1, 1), Remove("e/y"))
	b.zfs("snapshot", "SOURCE@"+zrepl)
	b.zfs("hold", "zrepl_last_received_J_mail", "SOURCE@"+zrepl)
	Apply(t, b.origin.dir, Create("later", 1, 1))
	b.imports("@" + zrepl)
	b.haveSnapshots("admin:0 " + sanoid + ":0 " + zrepl + ":2")
	b.native()
	b.haveSnapshots("admin:0 " + sanoid + ":0 " + zrepl + ":1 ours:1")
	b.zfs("release", "zrepl_last_received_J_mail", "SOURCE@"+zrepl)
}

// imports makes a run from a snapshot that somebody else made.
func (b *bench) imports(name string) {
	b.Helper()
	reports, err := job.Run(b.Context(), b.job, job.Options{Say: b.Logf, Snapshot: name})
	b.must(err)
	if r := reports[0]; r.How != "native" {
		b.Errorf("the run from %s compared %s: %s", name, r.How, r.Reason)
	}
	b.origin.live = false // it may have changed since
	b.judge()
	b.origin.live = true
}

// TestZFSGoing: a base goes with its last hold. One that somebody else holds, or has cloned, stays as long as he needs it and is in nobody's way, and a run
// that fails has lost nothing. So it is where the dataset has so many snapshots that they are listed apart.
func TestZFSGoing(t *testing.T) {
	b := zfsBench(t)
	base := func() string {
		list := strings.Fields(b.zfs("list", "-H", "-d1", "-t", "snapshot", "-s", "createtxg", "-o", "name", "SOURCE"))
		return list[len(list)-1]
	}
	n := 0
	next := func(want string) {
		b.Helper()
		n++
		Apply(t, b.origin.dir, Create(fmt.Sprint("f", n), 10, n))
		b.native()
		b.haveSnapshots(want)
	}
	Apply(t, b.origin.dir, Create("a", 10, 1))
	b.run()
	next("ours:1")

	held := base()
	b.zfs("hold", "mine", held)
	next("ours:1 ours:1")
	next("ours:1 ours:1")
	b.zfs("release", "mine", held)
	b.haveSnapshots("ours:1")

	cloned, clone := base(), b.origin.source+"-clone"
	b.zfs("clone", cloned, clone)
	next("ours:0 ours:1")
	next("ours:0 ours:1")
	b.zfs("destroy", clone)
	b.haveSnapshots("ours:1")

	fail := b.job // when the snapshot is there
	fail.Hooks.AfterSnapshot, fail.Hooks.Timeout = []string{"false"}, time.Minute
	if _, err := job.Run(b.Context(), fail, job.Options{Say: b.Logf}); err == nil {
		t.Fatal("a run whose hook failed is said to have been well")
	}
	b.haveSnapshots("ours:1")
	next("ours:1")

	b.command("sh", "-c", "for i in $(seq 201); do zfs snapshot "+b.origin.source+"@many$i || exit; done")
	Apply(t, b.origin.dir, Create("many", 10, 1))
	b.native()
	if have := b.snapshots(); strings.Count(have, "ours:1") != 1 || strings.Contains(have, "ours:0") {
		t.Errorf("with many others: %q", have)
	}
}

// TestZFSLostBase: what makes the base useless leads to a full comparison that says why, and the next run is a native one. The
// mirror is on ZFS too.
func TestZFSLostBase(t *testing.T) {
	NeedZFS(t)
	pool, dir := ZFSPool(t)
	Dataset(t, pool+"/mirror", "-o", "xattr=sa")
	b := newBenchAt(t, driver{name: "zfs", make: func(t testing.TB) origin {
		Dataset(t, pool+"/source", "-o", "xattr=sa", "-o", "recordsize=4k", "-o", "compression=lz4")
		return origin{source: pool + "/source", dir: filepath.Join(dir, "source"), live: true}
	}}, filepath.Join(dir, "mirror"))
	Apply(t, b.origin.dir, Create("a", 20000, 1), Link("a", "l"), Mkdir("d"), Create("d/x", 10, 1))
	b.zfs("snapshot", "SOURCE@old")
	b.run()
	Apply(t, b.origin.dir, Create("b", 20000, 1), Remove("a"), Create("c", 7, 7))
	b.native()

	// Whoever removes the hold can roll back.
	ours := b.zfs("list", "-H", "-d1", "-t", "snapshot", "-o", "name", "-S", "createtxg", "SOURCE")
	ours, _, _ = strings.Cut(ours, "\n")
	tag := strings.Fields(b.zfs("holds", "-H", ours))[1]
	b.zfs("release", tag, ours)
	b.zfs("rollback", "-r", "SOURCE@old")
	Apply(t, b.origin.dir, Create("after", 100, 1), Link("d/x", "y"))
	b.nothingToVerify()
	b.full("is gone")
	Apply(t, b.origin.dir, Remove("d/x"), Rename("d", "e"))
	b.native()

	// The base is the newest snapshot: a rollback to it keeps it.
	ours = strings.Fields(b.zfs("list", "-H", "-d1", "-t", "snapshot", "-o", "name", "-S", "createtxg", "SOURCE"))[0]
	Apply(t, b.origin.dir, Create("lost", 1, 1))
	b.zfs("rollback", ours)
	Apply(t, b.origin.dir, Create("kept", 1, 1))
	b.native()

	// A clone that is promoted takes the snapshots along.
	b.zfs("snapshot", "SOURCE@shared")
	b.zfs("clone", "SOURCE@shared", b.origin.source+"2")
	b.zfs("promote", b.origin.source+"2")
	Apply(t, b.origin.dir, Create("still", 1, 1))
	b.nothingToVerify()
	b.full("is gone")
	b.judgePast()
}

// checks looks for words in what snapdiff check finds.
func (b *bench) checks(level job.Level, words, next string) {
	b.Helper()
	found, _ := job.Check(b.Context(), b.job, config.Log{})
	for _, f := range found {
		if f.Level == level && strings.Contains(f.Text, words) && strings.Contains(f.Next, next) {
			return
		}
	}
	b.Errorf("check does not say %q and %q: %+v", words, next, found)
}

// TestZFSRefusals: what cannot work is said, with what to do.
func TestZFSRefusals(t *testing.T) {
	b := zfsBench(t)
	key := filepath.Join(t.TempDir(), "key")
	b.must(os.WriteFile(key, []byte(strings.Repeat("k", 32)), 0o600))
	Apply(t, b.origin.dir, Create("a", 10, 1))
	b.run()
	source := b.job.Source
	b.checks(job.Note, "is held", "snapdiff release -j test")
	s := status.Of(b.job, time.Now(), status.Limits{})
	for try := 0; s.Base == nil && try < 20; try++ { // it does not wait long for the source
		s = status.Of(b.job, time.Now(), status.Limits{})
	}
	if s.State != "ok" || !strings.Contains(s.Hold, "is held") || !strings.Contains(s.GiveUp, "snapdiff release -j test") {
		t.Errorf("status says %q and %q", s.Hold, s.GiveUp)
	}
	b.zfs("set", "snapshot_limit=1", "SOURCE")
	b.checks(job.Warning, "its limit is 1", "snapshot_limit=none "+source)
	b.zfs("set", "snapshot_limit=none", "SOURCE")
	b.zfs("create", "-V", "16M", "-s", "SOURCE/volume")
	b.job.Source = source + "/volume"
	b.checks(job.Missing, "is a volume", "zfs list -t filesystem")
	for name, words := range map[string]string{source + "/volume": "is a volume", source + "/none": "there is nothing of that name"} {
		b.job.Source = name
		b.fails(words, "")
	}
	b.must(os.Mkdir(b.origin.dir+"/sub", 0o755))
	b.job.Source = b.origin.dir + "/sub"
	b.fails("is not the mount point of a dataset", "name the dataset itself")
	b.job.Source = source
	_, err := job.Run(b.Context(), b.job, job.Options{Snapshot: "nothing"})
	if err == nil || !strings.Contains(err.Error(), "there is no snapshot") {
		t.Errorf("a snapshot that is not there: %v", err)
	}

	b.origin.live = false // it shows the child
	b.zfs("create", "-o", "encryption=on", "-o", "keyformat=raw", "-o", "keylocation=file://"+key, "SOURCE/secret")
	e := newBenchAt(t, driver{name: "zfs", make: func(testing.TB) origin {
		return origin{source: source + "/secret", dir: filepath.Join(b.origin.dir, "secret")}
	}}, Mount(t, Ext4))
	Apply(t, e.origin.dir, Create("a", 10000, 1), SetXattr("a", "user.x", "1"))
	e.run()
	Apply(t, e.origin.dir, Append("a", 1000, 1))
	e.native()
	if skipped := b.native().Skipped; !slices.ContainsFunc(skipped, func(p output.Path) bool { return p.Path == "secret" }) {
		t.Errorf("the child dataset is not among what was skipped: %v", skipped)
	}
	e.zfs("unmount", "SOURCE")
	e.zfs("unload-key", "SOURCE")
	e.fails("its key is not loaded", "zfs load-key "+e.origin.source)
	e.checks(job.Missing, "its key is not loaded", "zfs load-key "+e.origin.source)
	e.zfs("load-key", "SOURCE")
	e.native()
}
