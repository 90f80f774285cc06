package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// stdout runs a command line and gives its standard output alone.
func (b *jobBench) stdout(status int, args ...string) string {
	b.t.Helper()
	var out, errs bytes.Buffer
	if got := execute(append([]string{"--config", b.config}, args...), &out, &errs); got != status {
		b.t.Fatalf("snapdiff %q: status %d, want %d:\n%s%s", args, got, status, out.String(), errs.String())
	}
	return out.String()
}

func TestDiffCommand(t *testing.T) {
	b, _ := twoPoints(t)
	want := "M anna/ (metadata)\nM anna/1 (data)\nM anna/2 (link)\nR bert/ -> carl/\n+ carl/2 (link)\n- gone/\n- gone/deep/\n- gone/deep/1\n"
	if got := b.stdout(0, "diff"); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	if got := b.stdout(0, "diff", "r1", "latest", "--absolute"); got != strings.NewReplacer(" anna", " "+b.source+"/anna", " bert", " "+b.source+"/bert",
		" carl", " "+b.source+"/carl", " gone", " "+b.source+"/gone").Replace(want) {
		t.Errorf("--absolute gives:\n%s", got)
	}
	if got := b.stdout(0, "diff", "--json"); strings.Count(got, "\n") != strings.Count(want, "\n")+1 || !strings.Contains(got,
		`{"kind":"renamed","path":"carl","old_path":"bert","type":"directory","reasons":["names"]}`) {
		t.Errorf("--json gives:\n%s", got)
	}
	if got := b.stdout(0, "diff", "--format=lines", "--absolute=/m"); got != "/m\n/m/anna\n/m/anna/1\n/m/anna/2\n/m/carl\n/m/carl/1\n/m/carl/2\n" {
		t.Errorf("lines:\n%s", got)
	}
	if got := b.stdout(0, "diff", "--format=deleted"); got != "gone/deep/1\x00gone/deep\x00gone\x00bert/1\x00bert\x00" {
		t.Errorf("deleted: %q", got)
	}
	if got := b.stdout(0, "diff", "latest"); got != "" {
		t.Errorf("the newest differs from itself:\n%s", got)
	}
	if out := b.snapdiff(0, "diff", "r1"); !strings.Contains(out, "from r1 of ") {
		t.Errorf("it does not say what is compared:\n%s", out)
	}
	if err := os.Rename(b.source, b.source+".away"); err != nil {
		t.Fatal(err)
	}
	if got := b.stdout(0, "diff"); got != want {
		t.Errorf("without the source:\n%s", got)
	}
	b.refused(2, "the other way round", "diff", "r2", "r1")
	b.refused(2, "human, json", "diff", "--format=xml")
	b.refused(2, "exclude each other", "diff", "--json", "--format=tar")
	b.refused(2, "--rejects goes with", "diff", "--rejects=/tmp/x")
	b.refused(2, "no absolute path", "diff", "--absolute=x")
	b.refused(1, "no such restore point", "diff", "r9")
}

func TestDiffOfOneRestorePoint(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a")
	b.snapdiff(0, "init")
	b.refused(1, "nothing to compare", "diff")
	b.snapdiff(0, "run")
	b.refused(1, "nothing to compare", "diff")
}

// Names of any bytes go through the pipes of the help text into real rsync and tar, and two copies get up to date.
func TestDiffFeedsOtherPrograms(t *testing.T) {
	b := newJobBench(t, "")
	b.write("#hash", ";semi", "-dash", "new\nline", `back\nslash`, "\xff\xfe", "dir/ blank", "dir/deep/f", "old/x", "old/y", "kept", "links/1")
	shell := func(script string) {
		t.Helper()
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
		cmd.Env = append(os.Environ(), "SRC="+b.source, "TREE="+filepath.Join(b.store, "tree"), asProgram+"=1", "COPIES="+filepath.Dir(b.config),
			"SD="+os.Args[0]+" --config "+b.config)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	shell(`ln "$SRC/links/1" "$SRC/old/link"`)
	b.snapdiff(0, "init")
	b.snapdiff(0, "run")
	shell(`cp -a $TREE $COPIES/rsynced; cp -a $TREE $COPIES/untarred; cd $SRC
		for f in '#hash' ';semi' -dash $'new\nline' 'back\nslash' $'\xff\xfe' 'dir/ blank'; do echo more >> "./$f"; done
		mv dir moved; ln moved/deep/f 'moved/#2'; rm -r old/x; mv old moved/old; mkdir old; touch -d 2001-01-01 .; ln -s nowhere '*?['`)
	b.snapdiff(0, "run")
	shell(`
		$SD diff --format=deleted | (cd $COPIES/rsynced && xargs -0 -r rm -rf --)
		$SD diff --format=rsync | rsync -aHAX --ignore-times --modify-window=-1 --from0 --files-from=- $TREE/ $COPIES/rsynced/
		$SD diff --format=deleted | (cd $COPIES/untarred && xargs -0 -r rm -rf --)
		$SD diff --format=tar | tar -C $TREE --xattrs --acls --format=posix -c --null --no-recursion -T - | tar -C $COPIES/untarred -x --xattrs --acls -p`)
	sameTrees(t, filepath.Join(b.store, "tree"), filepath.Join(filepath.Dir(b.config), "rsynced"))
	sameTrees(t, filepath.Join(b.store, "tree"), filepath.Join(filepath.Dir(b.config), "untarred"))
	b.refused(1, `new\nline`, "diff", "--format=lines")
	rejects := filepath.Join(t.TempDir(), "rejects")
	if got := b.stdout(0, "diff", "--format=lines", "--rejects", rejects); !strings.Contains(got, "\n#hash\n") || strings.Contains(got, "new") {
		t.Errorf("lines:\n%s", got)
	}
	if got, err := os.ReadFile(rejects); err != nil || string(got) != "new\nline\x00" {
		t.Errorf("rejected %q, %v", got, err)
	}
}
