package main

import (
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapdiff/apply/applytest"
)

// TestGate has what holds a run besides max_deleted, each with a source of its own on one btrfs.
func TestGate(t *testing.T) {
	fs := applytest.Mount(t, applytest.Btrfs)
	for name, test := range map[string]func(*jobBench){
		"changed": changedTooMuch, "grown": grownSinceApproved, "grown natively": grownSinceHeld, "encrypted in place": encryptedInPlace, "encrypted beside": encryptedBeside,
		"ordinary": ordinaryDay, "retention": heldKeepsHistory, "release": releaseBase, "pinned": pinnedTooLong,
	} {
		t.Run(name, func(t *testing.T) {
			b := newJobBenchOn(t, fs, "")
			test(b)
			b.checkCatalog()
		})
	}
}

func changedTooMuch(b *jobBench) {
	b.configure("max_changed = 3")
	b.begin("d/1", "d/2", "d/3", "e/1", "e/2")
	b.sh("cd $S; mv d/1 d/moved; touch new; mkdir f; mv e f; echo x > d/2; rm d/3; chmod 600 f/e/1")
	b.silent("run") // three: what moved and what is new does not count
	b.equal()
	b.sh("cd $S; for f in d/* f/e/*; do echo more >> $f; done")
	out := b.snapdiff(5, "run")
	for _, want := range []string{"r3 is held: 4 of 5 files would be changed or deleted, more than max_changed = 3", "; most of it in d (0 deleted, 2 changed), in f (0 deleted, 2 changed)\n"} {
		if !strings.Contains(out, want) {
			b.t.Errorf("%q is missing:\n%s", want, out)
		}
	}
	b.refused(0, "r3 is held: 4 of 5 files would be changed", "status")
	b.refused(0, "this run would be held: 4 of 5 files", "run", "--dry-run")
	if out := b.snapdiff(5, "run", "--json"); !strings.Contains(out, `"changed":4`) || !strings.Contains(out, `{"path":"d","deleted":0,"changed":2}`) {
		b.t.Errorf("run --json: %s", out)
	}
	b.silent("run", "--approve", "r4")
	b.equal()
}

// grownSinceApproved: what was approved goes through as it was seen. Where a full comparison finds more to do than was seen, it is
// held again.
func grownSinceApproved(b *jobBench) {
	b.configure("max_deleted = 1")
	b.begin("1", "2", "3", "4")
	b.sh("rm $S/1 $S/2")
	b.refused(5, "r2 is held: 2 of 4", "run")
	b.sh("touch $STORE/tree/theirs-1 $STORE/tree/theirs-2") // goes too, in a full comparison
	b.refused(5, "r3 is held: 4 of 4", "run", "--approve", "r2", "--full")
	b.untouched("theirs-1")
	b.untouched("1")
	b.refused(0, "compared in full", "run", "--approve", "r3", "--full")
	b.equal()
}

// grownSinceHeld: a native run that finds more to do than the one that is held is held in its place, and what was seen of the former approves it
// no more. What is approved goes through as it was seen, and what came since then is held again.
func grownSinceHeld(b *jobBench) {
	b.configure("max_deleted = 1")
	b.begin("1", "2", "3", "4", "5", "6")
	b.sh("rm $S/1 $S/2")
	b.refused(5, "r2 is held: 2 of 6", "run")
	b.sh("rm $S/3")
	b.refused(5, "r3 is held: 3 of 6", "run")
	b.refused(1, "r2 is not held; r3 is: 3 of 6", "run", "--approve", "r2")
	b.untouched("1")
	b.wantSnapshots(2, "the base and that of the held run")
	b.sh("rm $S/4 $S/5")
	b.silent("run", "--approve", "r3")
	b.untouched("4")
	b.untouched("5")
	for _, name := range []string{"1", "2", "3"} {
		if _, err := os.Lstat(filepath.Join(b.store, "tree", name)); !os.IsNotExist(err) {
			b.t.Errorf("%s was approved to go: %v", name, err)
		}
	}
	b.refused(5, "r4 is held: 2 of 3", "run")
	b.refused(1, "r3 is not held; r4 is", "run", "--approve", "r3")
	b.untouched("4")
	b.silent("run", "--approve", "r4")
	b.equal()
	if out := b.snapdiff(0, "list", "--json"); strings.Contains(out, `"how":"full"`) {
		b.t.Errorf("not all runs are native:\n%s", out)
	}
}

const manyFiles = 220

// letters makes files of text that differ from each other, some of them too small to tell anything of.
func (b *jobBench) letters(dir string) {
	b.t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("dear all the quarterly figures are attached please find below our offer for regards invoice meeting tomorrow at noon in room")
	for i := range manyFiles {
		var text strings.Builder
		for size := 200 + r.IntN(6000); text.Len() < size; {
			text.WriteString(words[r.IntN(len(words))] + " ")
		}
		path := filepath.Join(b.source, dir, fmt.Sprintf("%d/letter %d.doc", i%7, i))
		b.must(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text.String()), 0o644))
	}
}

func (b *jobBench) must(errs ...error) {
	b.t.Helper()
	for _, err := range errs {
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// eachLetter hands over the path and the contents of each file below a directory of the source.
func (b *jobBench) eachLetter(dir string, do func(path string, content []byte)) {
	b.t.Helper()
	paths, err := filepath.Glob(filepath.Join(b.source, dir, "*/*"))
	b.must(err)
	if len(paths) != manyFiles {
		b.t.Fatalf("%d files", len(paths))
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		b.must(err)
		do(path, content)
	}
}

// encrypt is what ransomware does to contents.
func encrypt(content []byte) []byte {
	block, err := aes.NewCipher([]byte("0123456789abcdef"))
	if err != nil {
		panic(err)
	}
	out := make([]byte, len(content))
	cipher.NewCTR(block, make([]byte, 16)).XORKeyStream(out, content)
	return out
}

func encryptedInPlace(b *jobBench) {
	b.letters("office")
	b.begin("x")
	b.eachLetter("office", func(path string, content []byte) { b.must(os.WriteFile(path, encrypt(content), 0o644)) })
	out := b.snapdiff(5, "run", "--verbose")
	if !strings.Contains(out, "r2 is held: the contents look encrypted: of 100 changed files that were looked at") || !strings.Contains(out, "in office/") {
		b.t.Errorf("not held as it should be:\n%s", out)
	}
	b.configure(`ransomware = "off"`)
	b.silent("run")
	b.equal()
}

// encryptedBeside: the encrypted files get another name and the others are deleted.
func encryptedBeside(b *jobBench) {
	b.configure(`max_deleted = "100%"`)
	b.letters("office")
	b.begin("x")
	b.eachLetter("office", func(path string, content []byte) {
		b.must(os.WriteFile(path+".locked", encrypt(content), 0o644), os.Remove(path))
	})
	out := b.snapdiff(5, "run")
	for _, want := range []string{"look encrypted", fmt.Sprintf("%d files were given the extension .locked", manyFiles)} {
		if !strings.Contains(out, want) {
			b.t.Errorf("%q is missing:\n%s", want, out)
		}
	}
	b.silent("run", "--approve", "r2")
	b.equal()
	b.sh("cd $S/office; for d in *; do for f in $d/*; do mv \"$f\" \"$f.crypt\"; done; done") // names alone
	b.refused(5, fmt.Sprintf("%d files were given the extension .crypt", manyFiles), "run")
}

// ordinaryDay: what many files at once go through on healthy servers is no sign.
func ordinaryDay(b *jobBench) {
	b.letters("logs")
	b.letters("mail")
	b.letters("home")
	b.begin("x")
	chance := rand.NewChaCha8([32]byte{1})
	b.eachLetter("logs", func(path string, content []byte) { // logrotate, and a crowd of new photos beside
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err := w.Write(content)
		photo := make([]byte, 4000)
		chance.Read(photo)
		b.must(err, w.Close(), os.WriteFile(path+".gz", packed.Bytes(), 0o644), os.Remove(path), os.WriteFile(filepath.Join(b.source, filepath.Base(path)+".jpg"), photo, 0o644))
	})
	b.eachLetter("mail", func(path string, _ []byte) { b.must(os.Rename(path, path+":2,S")) })
	b.eachLetter("home", func(path string, content []byte) { b.must(os.WriteFile(path, append(content, content...), 0o644)) })
	b.silent("run")
	b.equal()
	b.eachLetter("home", func(path string, content []byte) { // written anew by programs that save by renaming
		b.must(os.WriteFile(path+".tmp", append([]byte("new "), content...), 0o644), os.Rename(path+".tmp", path))
	})
	b.sh("cd $S; for f in *.jpg; do head -c 4000 /dev/urandom > \"$f\"; done") // retouched
	b.silent("run")
	b.equal()
}

// heldKeepsHistory: no restore point is dropped while a run is held.
func heldKeepsHistory(b *jobBench) {
	b.configure("max_deleted = 1\nkeep = { last = 2 }")
	b.begin("1", "2", "3", "4")
	b.configure("max_deleted = 1")
	b.sh("touch $S/a")
	b.silent("run")
	b.sh("touch $S/b")
	b.silent("run")
	b.configure("max_deleted = 1\nkeep = { last = 2 }")
	b.sh("rm $S/1 $S/2")
	b.refused(5, "r4 is held", "run")
	b.refused(5, "no restore point is dropped while r4 is held: 2 of 6", "prune")
	if out := b.snapdiff(0, "list"); strings.Count(out, "\n") != 3 {
		b.t.Errorf("restore points were dropped:\n%s", out)
	}
	b.silent("run", "--approve", "r4")
	if out := b.snapdiff(0, "list"); strings.Count(out, "\n") != 2 {
		b.t.Errorf("keep does not hold:\n%s", out)
	}
	b.snapdiff(0, "prune")
}

// releaseBase lets the base go, with the store and without.
func releaseBase(b *jobBench) {
	b.configure("max_deleted = 0")
	b.begin("1", "2")
	b.refused(0, "would release", "release", "--dry-run")
	b.wantSnapshots(1, "the base")
	b.sh("rm $S/1")
	b.refused(5, "r2 is held", "run")
	if out := b.snapdiff(0, "release"); strings.Count(out, "released") != 2 {
		b.t.Errorf("released:\n%s", out)
	}
	b.wantSnapshots(0, "none")
	b.refused(1, "no run is", "run", "--approve", "r2")
	b.configure("")
	b.wantFull("is gone")
	b.sh("mv $STORE $STORE.away; rm $S/2; touch $S/3")
	b.refused(0, "released", "release")
	b.wantSnapshots(0, "none")
	b.sh("mv $STORE.away $STORE")
	b.wantFull("is gone")
}

// pinnedTooLong: where the store stays away, or nobody approves what is held, the base goes when max_pinned says so.
func pinnedTooLong(b *jobBench) {
	b.begin("1", "2")
	out := b.snapdiff(0, "status", "--json")
	if !strings.Contains(out, `"base":"`) || strings.Contains(out, "base_bytes") {
		b.t.Errorf("status: %s", out)
	}
	b.configure("max_pinned = \"1GB\"") // which btrfs does not tell
	b.refused(0, "does not tell how much our snapshots pin", "status")
	b.refused(0, "next: write max_pinned = \"14d\" in [jobs.mail]", "check")
	b.configure("max_pinned = \"1h\"")
	b.sh("mv $STORE $STORE.away")
	if out := b.snapdiff(1, "run"); strings.Contains(out, "let go") {
		b.t.Errorf("let go at once:\n%s", out)
	}
	b.wantSnapshots(1, "the base")
	b.configure("max_pinned = \"1s\"")
	time.Sleep(1100 * time.Millisecond)
	b.refused(0, "max_pinned is 1.0 s", "status")
	b.refused(1, "the base was let go: our oldest snapshot on the source is ", "run")
	b.wantSnapshots(0, "none")
	b.sh("mv $STORE.away $STORE; rm $S/1")
	b.wantFull("is gone")
	b.configure("max_deleted = 0\nmax_pinned = \"1s\"")
	b.sh("rm $S/2")
	time.Sleep(1100 * time.Millisecond)
	b.refused(5, "the base was let go", "run")
	b.wantSnapshots(0, "none: that of the held run is void")
	b.refused(1, "no run is", "run", "--approve", "r3")
}
