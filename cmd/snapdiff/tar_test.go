package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
	b.refused(1, "file does not exist", "tar", "latest", "gone")
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
