package output

import (
	"encoding/base64"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestFigures(t *testing.T) {
	for want, got := range map[string]string{
		"0 B": Size(0), "999 B": Size(999), "1.0 KB": Size(1000), "10 KB": Size(9960), "1.0 MB": Size(999_999), "1.5 GB": Size(1_500_000_000),
		"9 EB": Size(1<<63 - 1),
		"0":    Count(0), "999": Count(999), "1,000": Count(1000), "-1,234,567": Count(-1234567),
		"420 ms": Duration(420 * time.Millisecond), "4.2 s": Duration(4200 * time.Millisecond), "12 s": Duration(12 * time.Second), "3 min 20 s": Duration(200 * time.Second), "2 h 5 min": Duration(125 * time.Minute),
		"59 s": Duration(59_900 * time.Millisecond),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"a b": "a b", "ä": "ä", "a\nb": `a\nb`, `a\nb`: `a\\nb`, "\xff": `\xff`, "\x1b[31m": `\x1b[31m`, "\u202egnp": `\u202egnp`,
	} {
		if got := Name(name); got != want {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
	}
}

func TestTwoNamesNeverLookTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytes := rapid.SliceOfN(rapid.SampledFrom([]byte("\\xnfu0a\xff\x1b\n\xc3\xa4")), 0, 6)
		a, b := string(bytes.Draw(t, "a")), string(bytes.Draw(t, "b"))
		if a != b && Name(a) == Name(b) {
			t.Fatalf("%q and %q both show as %s", a, b, Name(a))
		}
	})
}

func TestPath(t *testing.T) {
	if p := NewPath("ä\n"); p.Path != "ä\n" || p.B64 != "" {
		t.Errorf("%+v", p)
	}
	p := NewPath("a\xff")
	if raw, _ := base64.StdEncoding.DecodeString(p.B64); string(raw) != "a\xff" || p.Path != "a\uFFFD" {
		t.Errorf("%+v", p)
	}
}

// TestText: what an error says about a stranger's file cannot act on the terminal.
func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"open a\x1b]0;title\x07b: no such file": `open a\x1b]0;title\ab: no such file`,
		"copy \"a\\x1b\": x\nnext line":         "copy \"a\\x1b\": x\nnext line",
		"\xff\u202e ä\r":                        `\xff\u202e ä\r`,
	} {
		if got := Text(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
}

func TestShorten(t *testing.T) {
	for in, want := range map[string]string{"": "", "0123456789äb": "0123456789äb", "ä123456789abc": "ä123 ... abc", "0123456789abcdefghijß": "0123 ... ijß"} {
		if got := Shorten(in, 12); got != want || len([]rune(got)) > 12 {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
