package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
)

// --progress is asked for where there is no terminal; what is over at once shows nothing.
func TestProgressFlag(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a/1", "a/2")
	b.snapdiff(0, "init")
	b.silent("run", "--progress")
	b.silent("verify", "--progress=false")
}

// heard is the last that was told of each thing.
type heard struct {
	*testing.T
	mu   sync.Mutex
	last map[string]apply.Progress
}

func (h *heard) take(p apply.Progress) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.OfNames > 0 && p.Names > p.OfNames || p.OfBytes > 0 && p.Bytes > p.OfBytes {
		h.Errorf("more is done than there is: %+v", p)
	}
	if l := h.last[p.Doing]; p.Names >= l.Names || p.OfNames != l.OfNames {
		h.last[p.Doing] = p
	}
}

// want makes sure that so many names were told of each, and forgets them.
func (h *heard) want(names int64, doing ...string) {
	h.Helper()
	for _, d := range doing {
		if got := h.last[d]; got.Names < names {
			h.Errorf("%q: got to %+v, want at least %d", d, got, names)
		}
	}
	clear(h.last)
}

// Everything that may take long tells how far it is, in the end that it is (nearly) done, and never more than there is.
func TestProgressOfAllLongWork(t *testing.T) {
	b := newJobBench(t, "keep = { last = 1 }\nransomware = \"off\"")
	for i := range 200 {
		b.write(fmt.Sprintf("a/%d", i), fmt.Sprintf("b/%d", i))
	}
	b.snapdiff(0, "init")
	c, err := config.Load(b.config)
	if err != nil {
		t.Fatal(err)
	}
	j := c.Jobs[0]

	h := &heard{T: t, last: map[string]apply.Progress{}}
	news, want := h.take, h.want
	run := func(o job.Options) {
		t.Helper()
		o.Progress = news
		if _, err := job.Run(t.Context(), j, o); err != nil {
			t.Fatal(err)
		}
	}
	run(job.Options{})
	want(400, "copying")
	for i := range 200 {
		if err := os.Rename(filepath.Join(b.source, fmt.Sprintf("a/%d", i)), filepath.Join(b.source, fmt.Sprintf("a/%d.new", i))); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.source, fmt.Sprintf("b/%d", i)), []byte("other"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	j.Keep = nil // the prune is for later
	run(job.Options{Full: true})
	want(192, "comparing", "taking out what went", "putting in what came")
	if _, err := job.Verify(t.Context(), j, job.VerifyOptions{Progress: news}, func(string, ...any) {}); err != nil {
		t.Fatal(err)
	}
	want(400, "comparing")
	view, err := apply.OpenView(j.Store, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := view.RestoreWith(t.Context(), "b", t.TempDir(), apply.RestoreOptions{Progress: news}); err != nil {
		t.Fatal(err)
	}
	want(192, "restoring")
	if err := view.Tar(t.Context(), io.Discard, "a", apply.TarOptions{Progress: news}); err != nil {
		t.Fatal(err)
	}
	want(192, "writing the archive")
	view.Close()
	j.Keep = c.Jobs[0].Keep
	if _, err := job.Prune(t.Context(), j, false, apply.Options{Progress: news}); err != nil {
		t.Fatal(err)
	}
	want(192, "removing what no restore point needs")
	run(job.Options{}) // nothing
	clear(h.last)
	doctor := func(doing ...string) {
		t.Helper()
		if _, err := job.Doctor(t.Context(), j, true, func(string, ...any) {}, news); err != nil {
			t.Error(err)
		}
		for _, d := range doing {
			if h.last[d].OfNames == 0 {
				t.Errorf("doctor does not tell of %q: %v", d, h.last)
			}
		}
	}
	doctor("comparing manifests with the catalog", "looking at the history of runs")
	want(192, "comparing names")
	b.allRight(os.Remove(b.catalog()))
	doctor("reading manifests", "rebuilding the catalog")
}
