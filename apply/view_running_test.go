package apply_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
)

// portrait writes down all that a view shows, a line for each name: attributes, link group, xattrs, contents.
func portrait(v *apply.View) (string, error) {
	p := &painter{view: v, groups: map[uint64]int{}}
	err := p.file(v.Root(), "")
	return p.text.String(), err
}

type painter struct {
	view   *apply.View
	text   strings.Builder
	groups map[uint64]int // by inode number, which may be another after the next run
}

func (p *painter) file(f apply.ViewFile, path string) error {
	attr, err := p.view.Lstat(f)
	if err != nil {
		return err
	}
	xattrs, err := p.view.Xattrs(f)
	if err != nil {
		return err
	}
	group, known := p.groups[attr.Ino]
	if !known {
		group = len(p.groups)
		p.groups[attr.Ino] = group
	}
	fmt.Fprintf(&p.text, "%q %+v %d %q ", path, attr.Attr, group, xattrs)
	switch f.Type {
	case unix.S_IFREG:
		err = p.contents(f)
	case unix.S_IFLNK:
		var target string
		target, err = p.view.Readlink(f)
		fmt.Fprintf(&p.text, "%q", target)
	}
	fmt.Fprintln(&p.text)
	if err != nil || f.Type != unix.S_IFDIR {
		return err
	}
	files, err := p.view.ReadDir(f)
	if err != nil {
		return err
	}
	for _, child := range files {
		if err := p.file(child, path+"/"+child.Name); err != nil {
			return err
		}
	}
	return nil
}

func (p *painter) contents(f apply.ViewFile) error {
	file, err := p.view.Open(f)
	if err != nil {
		return err
	}
	defer file.Close()
	h := sha256.New()
	_, err = io.Copy(h, io.NewSectionReader(file, 0, file.Size()))
	fmt.Fprintf(&p.text, "%x", h.Sum(nil)[:8])
	return err
}

// album has the portraits of all restore points so far, each by a view that stays open.
type album struct {
	*rig
	views []*apply.View
	want  []string
}

// add takes the portrait of the newest restore point.
func (a *album) add() {
	a.t.Helper()
	v, err := apply.OpenView(a.store, "", int64(len(a.taken)))
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { v.Close() })
	want, err := portrait(v)
	if err != nil {
		a.t.Fatal(err)
	}
	a.views, a.want = append(a.views, v), append(a.want, want)
}

// compare looks at all restore points again, through the view that is open and through a new one.
func (a *album) compare(when string) {
	a.t.Helper()
	for i, open := range a.views {
		v, err := apply.OpenView(a.store, "", int64(i+1))
		if err != nil {
			a.t.Errorf("%s: %v", when, err)
			continue
		}
		for _, v := range []*apply.View{v, open} {
			got, err := portrait(v)
			if err != nil || got != a.want[i] {
				a.t.Errorf("%s: r%d differs (%v): %s", when, i+1, err, firstDifference(a.want[i], got))
			}
		}
		v.Close()
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d\nwant %s\n got %s", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

// TestViewsInTheMiddleOfRuns looks at all earlier restore points between the steps of runs, also of one that was cut off and
// is being finished.
func TestViewsInTheMiddleOfRuns(t *testing.T) {
	seed := int(Seed(t) % 1000)
	a := &album{rig: newRig(t, Subvolume(t, filepath.Join(Mount(t, Btrfs), "src")), Ext4)}
	sh(t, a.source, strings.Replace(beginning, "seq 300", "seq 8", 1))
	if err := a.run(apply.Options{}); err != nil {
		t.Fatal(err)
	}
	a.add()
	stride := 19
	if Soak() {
		stride = 1
	}
	for i, round := range rounds {
		sh(t, a.source, round.script)
		steps := seed
		look := func(name string) error {
			if steps++; steps%stride == 0 {
				a.compare(fmt.Sprintf("%s, before step %d (%s)", round.name, steps-seed, name))
			}
			return nil
		}
		cut := func(name string) error {
			if steps-seed > 20+i*20 {
				return errCut
			}
			return look(name)
		}
		a.interrupted = true
		if err := a.run(apply.Options{Step: cut}); err != nil {
			a.compare("cut off")
			if err := a.resume(apply.Options{Step: look}); err != nil {
				t.Fatal(err)
			}
		}
		a.add()
		if t.Failed() {
			t.FailNow()
		}
	}
	a.compare("at the end")
	a.judgePast()
}

// TestViewsBesideRuns reads restore points all the time while runs change the store.
func TestViewsBesideRuns(t *testing.T) {
	a := &album{rig: newRig(t, Subvolume(t, filepath.Join(Mount(t, Btrfs), "src")), Ext4)}
	sh(t, a.source, beginning)
	if err := a.run(apply.Options{}); err != nil {
		t.Fatal(err)
	}
	a.add()
	var readers sync.WaitGroup
	done := make(chan struct{})
	looks := 0
	readers.Go(func() {
		for ; ; looks++ {
			select {
			case <-done:
				return
			default:
			}
			if got, err := portrait(a.views[0]); err != nil || got != a.want[0] {
				t.Errorf("beside runs: r1 differs (%v): %s", err, firstDifference(a.want[0], got))
			}
		}
	})
	for _, round := range rounds {
		sh(t, a.source, round.script)
		if err := a.run(apply.Options{}); err != nil {
			t.Error(err)
			break
		}
		if last := len(a.taken); last > 2 { // history of r1 is handed over while it is read
			if _, err := (&pruneRig{rig: a.rig}).prune(nil, int64(last-1)); err != nil {
				t.Error(err)
			}
		}
	}
	close(done)
	readers.Wait()
	t.Logf("looked %d times", looks)
}
