package apply_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
)

// What is on the disk otherwise than it was written is found before a first copy and a run are committed; the next attempt writes it
// again.
func TestReadBack(t *testing.T) {
	r := newExt4Rig(t)
	tree := func(name string) string { return filepath.Join(r.store, "tree", name) }
	sh(t, r.source, `mkdir d; head -c 300000 /dev/urandom > d/large; echo small > d/small; truncate -s 1M d/holes; echo end >> d/holes`)
	spoil := func(name string) apply.Options {
		done := false
		return apply.Options{ReadBack: true, Workers: 1, Step: func(step string) error {
			if step == "read back" && !done {
				done = true
				file, err := os.OpenFile(tree(name), os.O_WRONLY, 0)
				if err == nil {
					_, err = file.WriteAt([]byte{'!'}, 2)
					err = errors.Join(err, file.Sync(), file.Close())
				}
				return err
			}
			return nil
		}}
	}
	m := r.snapshot()
	var bad *apply.NotAsWritten
	if err := r.bring(m, spoil("d/small")); !errors.As(err, &bad) || bad.Path != "d/small" {
		t.Fatalf("a first copy: %v", err)
	}
	if err := r.bring(m, apply.Options{ReadBack: true}); err != nil {
		t.Fatal(err)
	}
	r.taken, r.last = append(r.taken, m), m
	r.judge()
	sh(t, r.source, `echo other > d/small; printf x | dd of=d/large bs=1 seek=100000 conv=notrunc status=none; echo new > new`)
	for i, small := range []int{1000, 0} {
		apply.SetSmallPlan(t, small)
		m := r.snapshot()
		if err := r.bring(m, spoil("d/large")); !errors.As(err, &bad) || bad.Path != "d/large" {
			t.Fatalf("a run: %v", err)
		}
		if err := r.resume(apply.Options{ReadBack: true}); err != nil {
			t.Fatal(err)
		}
		r.taken, r.last = append(r.taken, m), m
		r.judge()
		if i == 0 {
			sh(t, r.source, `printf yy | dd of=d/large bs=1 seek=200000 conv=notrunc status=none`)
		}
	}
	r.judgePast()
}

// What rots on the disk while memory has it as it was written is found too: reading back goes to the disk.
func TestReadBackIsFromTheDisk(t *testing.T) {
	r := newExt4Rig(t)
	sh(t, r.source, `echo before > before`)
	if err := r.run(apply.Options{}); err != nil {
		t.Fatal(err)
	}
	const text = "this is what rots while it is read back "
	if err := os.WriteFile(filepath.Join(r.source, "file"), []byte(strings.Repeat(text, 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	m, done := r.snapshot(), false
	err := r.bring(m, apply.Options{ReadBack: true, Workers: 1, Step: func(step string) error {
		if step == "read back" && !done {
			done = true
			Rot(t, filepath.Dir(r.store), text)
			content, err := os.ReadFile(filepath.Join(r.store, "tree/file"))
			if err != nil || string(content[:len(text)]) != text {
				t.Errorf("it is not in memory as it was written: %v, %q", err, content[:len(text)])
			}
		}
		return nil
	}})
	var bad *apply.NotAsWritten
	if !errors.As(err, &bad) || bad.Path != "file" {
		t.Fatalf("the run says %v", err)
	}
	if err := r.resume(apply.Options{ReadBack: true}); err != nil {
		t.Fatal(err)
	}
	r.taken, r.last = append(r.taken, m), m
	r.judge()
}
