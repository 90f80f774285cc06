package lvm

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	. "snapdiff/apply/applytest"
)

// logQuiet reads an image; xfs_logprint judges: quiet is a log that is clean, or has nothing but the superblock.
func logQuiet(t *testing.T, image string) (quiet, judged bool) {
	t.Helper()
	f, err := os.Open(image)
	must(t, err)
	defer f.Close()
	start := make([]byte, startSize)
	_, err = f.ReadAt(start, 0)
	must(t, err)
	quiet, err = xfsLogQuiet(f, start)
	must(t, err)
	said, err := exec.Command("xfs_logprint", "-t", image).CombinedOutput()
	if err != nil {
		t.Fatalf("xfs_logprint: %v: %s", err, said)
	}
	items := regexp.MustCompile(`(?m)^[A-Z]+: *cnt`).FindAll(said, -1)
	supers := regexp.MustCompile(`SUPER Block Buffer`).FindAll(said, -1)
	return quiet, regexp.MustCompile(`state: <CLEAN>`).Match(said) || regexp.MustCompile(`state: <DIRTY>`).Match(said) && len(items) == len(supers)
}

// TestXFSLog: the log of a filesystem that was frozen or unmounted has nothing to mend, and that of one that just stopped has, whatever round the log is in, and
// however long its records may be.
func TestXFSLog(t *testing.T) {
	NeedRoot(t)
	r := rand.New(rand.NewPCG(Seed(t), 4))
	for _, form := range []struct {
		name, options string
		mkfs          []string
	}{{"default", "loop", nil}, {"unit of 32k", "loop", []string{"-l", "su=32k"}}, {"unit of 64k", "loop", []string{"-l", "su=64k"}}, {"records of 256k", "loop,logbsize=256k", nil}} {
		t.Run(form.name, func(t *testing.T) { xfsLogs(t, r, form.options, form.mkfs...) })
	}
}

func xfsLogs(t *testing.T, r *rand.Rand, options string, mkfs ...string) {
	dir := MountSized(t, XFS, 400<<20, mkfs...)
	image := filepath.Join(filepath.Dir(dir), "image")
	sh(t, "umount "+dir)
	sh(t, "mount -o "+options+" "+image+" "+dir)
	at := t.TempDir()
	look := func(what string, want bool) {
		t.Helper()
		copied := filepath.Join(at, "image")
		sh(t, "cp --sparse=always "+image+" "+copied)
		quiet, judged := logQuiet(t, copied)
		if quiet != judged || judged != want {
			t.Errorf("%s: quiet %t, xfs_logprint says %t, should be %t", what, quiet, judged, want)
		}
	}
	rounds := 3
	if Soak() {
		rounds = 40
	}
	sh(t, "xfs_freeze -f "+dir)
	look("frozen when new", true)
	sh(t, "xfs_freeze -u "+dir)
	for round := range rounds {
		for i := range r.IntN(3000) {
			name := filepath.Join(dir, fmt.Sprint(round, ".", i%300))
			if i >= 300 && i%2 == 0 {
				must(t, os.Rename(name, name+"r"))
				must(t, os.Rename(name+"r", name))
			} else {
				must(t, os.WriteFile(name, []byte("x"), 0o600))
			}
		}
		must(t, os.WriteFile(filepath.Join(dir, "last"), []byte(fmt.Sprint(round)), 0o600))
		must(t, os.Rename(filepath.Join(dir, "last"), filepath.Join(dir, "at last")))
		sh(t, "sync -f "+dir)
		look("in use", false)
		held, err := os.Open(filepath.Join(dir, "at last"))
		must(t, err)
		must(t, os.Remove(filepath.Join(dir, "at last"))) // deleted while open: that is what the next mount finishes
		sh(t, "xfs_freeze -f "+dir)
		look("frozen", true)
		sh(t, "xfs_freeze -u "+dir)
		held.Close()
	}
	sh(t, "umount "+dir)
	look("unmounted", true)
	sh(t, "mount -o loop "+image+" "+dir)
}

// FuzzXFSLog: whatever a log holds, it is read without harm.
func FuzzXFSLog(f *testing.F) {
	const blocks = 2 * xlogLongest
	start := make([]byte, startSize)
	start[6], start[55], start[85], start[98], start[99], start[124] = 2, 1, 1, blocks>>8&0xFF, blocks&0xFF, 16
	f.Add([]byte{0xFE, 0xED, 0xBA, 0xBE, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		log := make([]byte, (blocks+16)*xlogBlock)
		copy(log[xlogBlock:], data)
		if _, err := xfsLogQuiet(readerAt(log), start); err != nil {
			t.Fatal(err)
		}
	})
}

// readerAt reads memory as a device is read.
type readerAt []byte

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(r)) {
		return 0, fmt.Errorf("reading past the end, at %d", off)
	}
	return copy(p, r[off:]), nil
}
