package output

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func newTestBar(terminal bool) (*Bar, *bytes.Buffer, func(time.Duration)) {
	var out bytes.Buffer
	clock := time.Date(2026, 11, 28, 1, 0, 0, 0, time.UTC)
	b := NewBar(&out, "mail: ")
	b.terminal, b.now, b.drawn = terminal, func() time.Time { return clock }, clock
	return b, &out, func(d time.Duration) { clock = clock.Add(d) }
}

func TestBarOnATerminal(t *testing.T) {
	b, out, pass := newTestBar(true)
	b.Show(Step{Doing: "copying", Names: 10, Bytes: 1e6, OfBytes: 100e6})
	if out.Len() > 0 {
		t.Errorf("shown at once: %q", out.String())
	}
	pass(10 * time.Second)
	b.Show(Step{Doing: "copying", Names: 1234, Bytes: 51e6, OfBytes: 100e6})
	if want := "\rmail: copying  1,234 files, 51 MB  51 %  5.0 MB/s  10 s left\x1b[K"; out.String() != want {
		t.Errorf("it shows\n%q, want (there is no room for the bar itself)\n%q", out.String(), want)
	}
	out.Reset()
	pass(time.Millisecond)
	b.Show(Step{Doing: "copying", Names: 1235, Bytes: 52e6, OfBytes: 100e6})
	if out.Len() > 0 {
		t.Errorf("drawn again at once: %q", out.String())
	}
	b.Clear()
	b.Clear()
	if out.String() != "\r\x1b[K" {
		t.Errorf("taken away by %q", out.String())
	}
	out.Reset()
	pass(time.Second)
	b.Show(Step{Doing: "removing", Names: 1, OfNames: 2}) // another step, another rate
	if want := "\rmail: removing  1 of 2  [==========          ]  50 %\x1b[K"; out.String() != want {
		t.Errorf("it shows %q, want %q", out.String(), want)
	}
	b.Close()
	out.Reset()
	pass(time.Hour)
	b.Show(Step{Doing: "removing", Names: 2, OfNames: 2})
	if out.Len() > 0 {
		t.Errorf("shown after its end: %q", out.String())
	}
}

// Where there is no terminal, a line now and then does.
func TestBarInAPipe(t *testing.T) {
	b, out, pass := newTestBar(false)
	for i := range 26 {
		b.Show(Step{Doing: "restoring", Names: int64(i * 100)})
		pass(time.Second)
	}
	b.Close()
	want := "mail: restoring  1,000 files  100/s\nmail: restoring  2,000 files  100/s\n"
	if out.String() != want {
		t.Errorf("it says %q, want %q", out.String(), want)
	}
}

// Nothing that comes in wrong order or from nobody does harm.
func TestBarTakesAnyNews(t *testing.T) {
	var none *Bar
	none.Show(Step{Doing: "x"})
	none.Clear()
	none.Close()
	b, out, pass := newTestBar(true)
	pass(time.Minute)
	b.Show(Step{Doing: "x", Names: 200, OfNames: 100})
	pass(time.Minute)
	b.Show(Step{Doing: "x", Names: 150, OfNames: 100})
	b.Show(Step{Doing: "", Names: -1, OfBytes: 0})
	if strings.Count(out.String(), "100 %") != 1 || strings.Contains(out.String(), "150") {
		t.Errorf("it shows %q", out.String())
	}
}
