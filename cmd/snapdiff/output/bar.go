package output

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// Step is how far something is that takes long.
type Step struct {
	Doing            string // what is being done: "copying"
	Names, Bytes     int64  // done
	OfNames, OfBytes int64  // in all; 0: not known
}

// Bar shows how far something is, with rate and time left: on a terminal in one line that is drawn again and again, elsewhere
// in a line now and then. What is over at once shows nothing. A nil Bar shows nothing at all. It is safe for several goroutines.
type Bar struct {
	w        io.Writer
	label    string
	terminal bool
	width    func() int
	now      func() time.Time

	mu      sync.Mutex
	step    Step
	samples []sample // of the present step; the first is where the rate is counted from
	drawn   time.Time
	visible bool
	closed  bool
}

// sample is how far it was at a time.
type sample struct {
	at           time.Time
	names, bytes int64
}

const (
	barPatience = 500 * time.Millisecond // before anything is shown
	barEvery    = 200 * time.Millisecond // on a terminal
	lineEvery   = 10 * time.Second       // elsewhere
	rateOver    = 15 * time.Second       // the rate is that of so long
	barWidth    = 20
)

// NewBar makes a bar for w; label is put before all, "mail: ".
func NewBar(w io.Writer, label string) *Bar {
	b := &Bar{w: w, label: label, terminal: IsTerminal(w), now: time.Now, width: func() int { return 80 }}
	if f, ok := w.(*os.File); ok && b.terminal {
		b.width = func() int {
			if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
				return columns
			}
			return 80
		}
	}
	b.drawn = b.now()
	return b
}

// Show takes the news.
func (b *Bar) Show(s Step) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if b.closed {
		return
	}
	if len(b.samples) == 0 || s.Doing != b.step.Doing || s.Names < b.step.Names && s.OfNames != b.step.OfNames {
		b.samples = []sample{{now, s.Names, s.Bytes}}
	} else if s.Names < b.step.Names || s.Bytes < b.step.Bytes {
		return // another goroutine was faster
	}
	b.step = s
	every := lineEvery
	switch {
	case b.terminal && b.visible:
		every = barEvery
	case b.terminal:
		every = barPatience
	}
	if now.Sub(b.drawn) < every {
		return
	}
	b.draw(now)
}

// Clear takes the line away, so that another one can be written; the next news bring it back.
func (b *Bar) Clear() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear()
}

func (b *Bar) clear() {
	if b.visible {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
	b.visible = false
}

// Close ends it.
func (b *Bar) Close() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear()
	b.closed = true
}

func (b *Bar) draw(now time.Time) {
	b.samples = append(b.samples, sample{now, b.step.Names, b.step.Bytes})
	for len(b.samples) > 2 && now.Sub(b.samples[1].at) > rateOver {
		b.samples = b.samples[1:]
	}
	line := b.line(now, b.terminal)
	if b.terminal {
		limit := max(b.width()-1, 0)
		if len(line) > limit {
			line = b.line(now, false)
		}
		if utf8.RuneCountInString(line) > limit {
			line = string([]rune(line)[:limit])
		}
		fmt.Fprint(b.w, "\r"+line+"\x1b[K")
		b.visible = true
	} else {
		fmt.Fprintln(b.w, line)
	}
	b.drawn = now
}

// line is the text: "mail: copying  1,234 files, 12 GB  [=====     ]  45 %  120 MB/s  3 min 20 s left".
func (b *Bar) line(now time.Time, graphic bool) string {
	s, from := b.step, b.samples[0]
	line := b.label + s.Doing
	switch {
	case s.OfNames > 0:
		line += "  " + Count(s.Names) + " of " + Count(s.OfNames)
	case s.Names > 0:
		line += "  " + Count(s.Names) + " files"
	}
	if s.Bytes > 0 {
		line += ", " + Size(s.Bytes)
	}
	share := s.share()
	if share >= 0 {
		if graphic {
			full := int(share * barWidth)
			line += "  [" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "]"
		}
		line += fmt.Sprintf("  %d %%", int(share*100))
	}
	span := now.Sub(from.at).Seconds()
	if span < 0.2 {
		return line
	}
	if s.Bytes > from.bytes {
		line += "  " + Size(int64(float64(s.Bytes-from.bytes)/span)) + "/s"
	} else if s.Names > from.names {
		line += "  " + Count(int64(float64(s.Names-from.names)/span)) + "/s"
	}
	before := Step{Names: from.names, Bytes: from.bytes, OfNames: s.OfNames, OfBytes: s.OfBytes}.share()
	if speed := (share - before) / span; share >= 0 && speed > 0 {
		line += "  " + strings.Replace(Duration(time.Duration((1-share)/speed*float64(time.Second)).Round(time.Second)), ".0 s", " s", 1) + " left"
	}
	return line
}

// share is how much of it is done, 0 to 1, and -1 where that cannot be told. Of names and bytes the one that is farther behind
// counts.
func (s Step) share() float64 {
	share := -1.0
	if s.OfNames > 0 {
		share = float64(s.Names) / float64(s.OfNames)
	}
	if s.OfBytes > 0 {
		of := float64(s.Bytes) / float64(s.OfBytes)
		if share < 0 || of < share {
			share = of
		}
	}
	return min(share, 1)
}
