package apply_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"snapdiff/apply"
	"snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/btrfs"
)

// rig is a btrfs source, its snapshots and a store.
type rig struct {
	t           *testing.T
	source      string
	store       string
	last        snapshot.Mark
	taken       []snapshot.Mark // one for each restore point, kept aside to compare with
	interrupted bool
}

func newRig(t *testing.T, source string, mirror applytest.Kind) *rig {
	r := &rig{t: t, source: source, store: filepath.Join(applytest.Mount(t, mirror), "store")}
	if err := os.MkdirAll(filepath.Join(source, ".snapdiff"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := apply.Init(r.store); err != nil {
		t.Fatal(err)
	}
	return r
}

func open(t *testing.T, path string) *beneath.Root {
	t.Helper()
	root, err := beneath.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func (r *rig) snapshot() snapshot.Mark {
	r.t.Helper()
	m, err := btrfs.Create(r.source, filepath.Join(r.source, ".snapdiff"), fmt.Sprintf("snapdiff-%d", len(r.taken)))
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// run takes a snapshot and brings it into the store.
func (r *rig) run(opts apply.Options) error {
	r.t.Helper()
	m := r.snapshot()
	err := r.bring(m, opts)
	if err == nil || r.interrupted {
		r.taken = append(r.taken, m)
		r.last = m
	}
	return err
}

func (r *rig) bring(m snapshot.Mark, opts apply.Options) error {
	s, err := apply.Open(r.store)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx := context.Background()
	next := open(r.t, m.Path)
	defer next.Close()
	if len(r.taken) == 0 {
		_, err := s.FirstCopy(ctx, apply.Copy{Next: next, Keys: btrfsfeed.Keys(next), Mark: m, Exclude: diff.MustExclude("/.snapdiff")}, opts)
		return err
	}
	if why := btrfs.Lineage(r.last, m); why != "" {
		r.t.Fatal(why)
	}
	base := open(r.t, r.last.Path)
	defer base.Close()
	set, err := btrfsfeed.Diff(ctx, base, next, r.last.Trans, diff.Options{Exclude: diff.MustExclude("/.snapdiff")})
	if err != nil {
		return err
	}
	res, err := s.Apply(ctx, apply.Run{Changes: set, Base: base, Next: next, Mark: m, How: "native"}, opts)
	if err == nil && (len(res.Incomplete) > 0 || len(res.Warnings) > 0) {
		return fmt.Errorf("incomplete %v, warnings %v", res.Incomplete, res.Warnings)
	}
	return err
}

// resume finishes a run that was cut off.
func (r *rig) resume(opts apply.Options) error {
	s, err := apply.Open(r.store)
	if err != nil {
		return err
	}
	defer s.Close()
	_, unfinished, err := s.Last()
	if err != nil || unfinished == nil {
		return err
	}
	next := open(r.t, unfinished.Mark.Path)
	defer next.Close()
	base := r.baseOf(unfinished)
	if base != nil {
		defer base.Close()
	}
	_, err = s.Resume(context.Background(), *unfinished, base, next, opts)
	return err
}

// baseOf opens the snapshot that a run was compared with.
func (r *rig) baseOf(run *apply.RunInfo) *beneath.Root {
	r.t.Helper()
	for i := range r.taken {
		if i > 0 && r.taken[i].ID == run.Mark.ID {
			return open(r.t, r.taken[i-1].Path)
		}
	}
	return nil
}

// judge compares the mirror with the newest snapshot.
func (r *rig) judge() {
	r.t.Helper()
	same(r.t, r.last.Path, filepath.Join(r.store, "tree"))
	left, err := os.ReadDir(filepath.Join(r.store, "stage"))
	if err != nil || len(left) > 0 {
		r.t.Errorf("left in stage: %v %v", left, err)
	}
	s, err := apply.Open(r.store)
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	wrong, err := s.CheckCatalog()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, w := range wrong[:min(len(wrong), 10)] {
		r.t.Errorf("catalog: %s", w)
	}
	r.manifestsFit(s)
}

// manifestsFit makes sure that a lost catalog could be made again of the manifests.
func (r *rig) manifestsFit(s *apply.Store) {
	r.t.Helper()
	wrong, err := s.CheckManifests(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, w := range wrong[:min(len(wrong), 10)] {
		r.t.Errorf("manifests: %s", w)
	}
}

func same(t *testing.T, want, got string) {
	t.Helper()
	out, err := exec.Command("rsync", "-aHAXn", "--delete", "--checksum", "--modify-window=-1", "--itemize-changes",
		"--exclude=/.snapdiff", "--filter=-x trusted.SGI_ACL_*", want+"/", got+"/").CombinedOutput()
	var lines []string
	for _, l := range strings.Split(string(out), "\n") {
		if l != "" && !strings.Contains(l, "nested-subvolume") {
			lines = append(lines, l)
		}
	}
	if err != nil || len(lines) > 0 {
		t.Fatalf("%s differs from %s (%v):\n%s", got, want, err, strings.Join(lines[:min(len(lines), 40)], "\n"))
	}
}

// judgePast restores every restore point and compares it with its snapshot.
func (r *rig) judgePast() {
	r.t.Helper()
	for i, m := range r.taken {
		to := filepath.Join(r.t.TempDir(), "restored")
		v, err := apply.OpenView(r.store, "", int64(i+1))
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := v.Restore(context.Background(), "", to); err != nil {
			r.t.Fatalf("restoring r%d: %v", i+1, err)
		}
		v.Close()
		same(r.t, m.Path, to)
		os.RemoveAll(to)
	}
}

func sh(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\nin:\n%s", err, out, script)
	}
}

// beginning is a tree with one of everything.
const beginning = `
	mkdir -p d/e/f keep gone/sub wide swap1 swap2 out
	for i in $(seq 300); do echo $i > wide/$i; done
	echo one > d/one; echo two > d/e/two; echo three > d/e/f/three; echo keep > keep/k
	ln d/one keep/one-too; ln d/one gone/one-three; echo x > gone/sub/x; echo lives > gone/lives; ln gone/lives out/lives-too
	echo s1 > swap1/s; echo s2 > swap2/s; ln -s target link; mkfifo fifo; mknod dev c 1 3; echo a > a; echo b > b; echo c > c
	truncate -s 1M holes; echo end >> holes; head -c 3000000 /dev/urandom > big
	printf 'nl' > $'new\nline'; echo bad > $'\xff\xfe'; echo dash > -rf; setfattr -n user.x -v 1 keep/k; setfacl -m u:7:rw keep/k
	setfattr -n trusted.t -v 2 keep; touch -h -d '2001-02-03 04:05:06.123456789' a link keep/k; chmod 4755 b; chown 12:34 c
	python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('sock')"
`

// rounds are days of changes; between them the restore points are taken.
var rounds = []struct{ name, script string }{
	{"everything at once", `
		echo more >> d/one; rm gone/sub/x; mv d/e d2; echo deep >> d2/f/three; rm -r gone; mv swap1 t; mv swap2 swap1; mv t swap2
		mv a t; mv b a; mv c b; mv t c; rm link; mkdir link; echo in > link/in; rm fifo; echo nofifo > fifo; chmod 600 keep/k
		ln keep/k out/k2; rm wide/1 wide/2; mv wide/3 wide/1; touch -d '2020-01-01' wide/4; echo five > wide/5
		printf x | dd of=big bs=1 seek=1500000 conv=notrunc status=none; truncate -s 500000 holes; mv keep/one-too out/`},
	{"nothing", ``},
	{"directories below their children", `
		mkdir -p p/q/r; echo r > p/q/r/f; mv d2/f up; mv d2 up/d2; mv d up/d2/d; rm -r wide; mkdir wide; echo new > wide/1`},
	{"metadata only", `
		setfattr -n user.y -v 3 keep/k; setfattr -x user.x keep/k; setfacl -m u:8:r keep/k; setfacl -d -m u:9:rx keep; chown 5:6 up; chmod 0 big
		touch -h -d '1999-09-09 09:09:09.999999999' dev; setcap cap_net_raw+ep a`},
	{"links", `
		ln keep/k keep/k3; rm out/k2; ln up/d2/d/one p/one; ln big p/q/big; rm big; mv p p2; ln dev dev2; rm out/lives-too`},
	{"same size, mtime put back", `
		touch -r b .ref; printf 'Z' | dd of=b bs=1 conv=notrunc status=none; touch -r .ref b; rm .ref; touch -d '2000-01-01' swap1`},
	{"holes", `
		fallocate -p -o 4096 -l 8192 p2/q/big; truncate -s 5M p2/q/big; cp --reflink=always p2/q/big reflinked; mv -- -rf $'\xfd'; rm $'\xff\xfe'`},
	{"nested subvolume and a deep path", `
		btrfs -q subvolume create nested-subvolume; echo hidden > nested-subvolume/f
		n=$(printf 'n%.0s' $(seq 200)); for i in $(seq 15); do mkdir $n; cd $n; done; echo bottom > $n`},
	{"all goes", `
		btrfs -q subvolume delete nested-subvolume; rm -rf -- * $'\xfd' 2>/dev/null || true; echo alone > alone`},
}

func TestRunsOnEveryMirror(t *testing.T) {
	applytest.NeedRoot(t)
	for _, kind := range applytest.MirrorKinds {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			r := newRig(t, applytest.Subvolume(t, filepath.Join(applytest.Mount(t, applytest.Btrfs), "src")), kind)
			sh(t, r.source, beginning)
			if err := r.run(apply.Options{}); err != nil {
				t.Fatal(err)
			}
			r.judge()
			for _, round := range rounds {
				sh(t, r.source, round.script)
				if err := r.run(apply.Options{}); err != nil {
					t.Fatalf("%s: %v", round.name, err)
				}
				r.judge()
				if t.Failed() {
					t.Fatalf("after: %s", round.name)
				}
			}
			r.judgePast()
		})
	}
}

var errCut = errors.New("cut off")

// TestCutAtEveryStep stops a run before each third of its steps in turn (the seed says which; in a soak before each), once more while it is
// being finished, and finishes it.
func TestCutAtEveryStep(t *testing.T) {
	applytest.NeedRoot(t)
	volume := applytest.Mount(t, applytest.Btrfs)
	every := 3
	if applytest.Soak() {
		every = 1
	}
	for i := int(applytest.Seed(t) % uint64(every)); ; i += every {
		apply.SetSmallPlan(t, i%2*1000) // with every mark, and with as few as can be
		r := newRig(t, applytest.Subvolume(t, filepath.Join(volume, fmt.Sprintf("src%d", i))), applytest.Ext4)
		sh(t, r.source, strings.Replace(beginning, "seq 300", "seq 8", 1))
		if err := r.run(apply.Options{}); err != nil {
			t.Fatal(err)
		}
		sh(t, r.source, rounds[0].script)
		r.interrupted = true
		cut := func(after int) apply.Options {
			n := 0
			return apply.Options{Step: func(string) error {
				if n++; n > after {
					return errCut
				}
				return nil
			}}
		}
		err := r.run(cut(i))
		if err == nil {
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		if err := r.resume(cut(i / 2)); err != nil && !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		if err := r.resume(apply.Options{}); err != nil {
			t.Fatalf("cut after %d steps: %v", i, err)
		}
		r.judge()
		r.judgePast()
		if t.Failed() {
			t.Fatalf("cut after %d steps", i)
		}
	}
}
