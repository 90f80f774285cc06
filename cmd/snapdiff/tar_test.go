package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
)

// untar extracts an archive into a directory.
func untar(t *testing.T, archive, dir string) {
	t.Helper()
	cmd := exec.Command("tar", "-x", "-p", "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*", "-C", dir)
	cmd.Stdin = strings.NewReader(archive)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("tar: %v\n%s", err, out)
	}
}

func TestTarCommand(t *testing.T) {
	b, old := twoPoints(t)
	for date, want := range map[string]string{"r1": old, "latest": b.source} {
		dir := t.TempDir()
		untar(t, b.stdout(0, "tar", date), dir)
		sameTrees(t, want, dir)
	}
	dir := t.TempDir()
	untar(t, b.stdout(0, "tar", "r1", filepath.Join(b.source, "gone")), dir)
	sameTrees(t, filepath.Join(old, "gone"), filepath.Join(dir, "gone"))

	went := filepath.Join(t.TempDir(), "went")
	changes := b.stdout(0, "tar", "latest", "--since", "r1", "--deleted", went)
	list, err := os.ReadFile(went)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("xargs", "-0", "-r", "rm", "-rf", "--")
	cmd.Dir, cmd.Stdin = old, bytes.NewReader(list)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	untar(t, changes, old)
	sameTrees(t, b.source, old)
	b.stdout(0, "tar", "latest", "gone2/../anna", "--since", "r1", "--deleted", went)
	if list, err := os.ReadFile(went); err != nil || len(list) != 0 {
		t.Errorf("below anna went %q, %v", list, err)
	}
	b.refused(2, "goes with --since", "tar", "r1", "--deleted", went)
	b.refused(2, "has no JSON form", "tar", "r1", "--json")
	b.refused(1, "r2 has no \"gone\"", "tar", "latest", "gone")
}

// Sockets are named and left out; a terminal gets no archive.
func TestTarLeavesOutSockets(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a")
	applytest.Apply(t, b.source, applytest.Socket("s"))
	b.snapdiff(0, "init")
	b.snapdiff(0, "run")
	if out := b.snapdiff(0, "tar", "latest"); !strings.Contains(out, "left out: s is a socket\n") {
		t.Errorf("nothing is said of the socket: %q", out)
	}
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	var said bytes.Buffer
	if status := execute([]string{"--config", b.config, "tar", "latest"}, terminal, &said); status != 2 || !strings.Contains(said.String(), "not written to a terminal") {
		t.Errorf("on a terminal: status %d\n%s", status, said.String())
	}
}

// GNU tar gets the holes back: of files that are all hole, that begin, end or are riddled with them, and of one that has none.
func TestTarKeepsHoles(t *testing.T) {
	b := newJobBench(t, "")
	b.sh(`cd $S; truncate -s 50M all; truncate -s 9M begins; echo end >> begins; echo begin > ends; truncate -s 7000001 ends
		for i in 1 3 5 70 900; do echo $i | dd of=riddled bs=4096 seek=$i conv=notrunc 2>/dev/null; done; ln riddled again; echo > plain; : > empty`)
	b.snapdiff(0, "init")
	b.silent("run")
	archive := b.stdout(0, "tar", "latest")
	if len(archive) > 200_000 {
		t.Errorf("the archive has %d bytes: holes were written", len(archive))
	}
	dir := t.TempDir()
	untar(t, archive, dir)
	sameTrees(t, b.source, dir)
	for _, name := range []string{"all", "begins", "ends", "riddled", "plain", "empty"} {
		var want, got unix.Stat_t
		b.must(unix.Lstat(filepath.Join(b.source, name), &want), unix.Lstat(filepath.Join(dir, name), &got))
		if got.Blocks > 8*8 || got.Size != want.Size {
			t.Errorf("%s: %d bytes in %d blocks, in the source %d in %d", name, got.Size, got.Blocks, want.Size, want.Blocks)
		}
	}
}
