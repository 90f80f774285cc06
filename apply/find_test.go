package apply

import (
	"path"
	"strings"
	"testing"
)

func TestMatchGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, yes, no string // names with blanks between them
	}{
		{"", "", "a"},
		{"a", "a", "b aa A"},
		{"*", "a .hidden a/b \xff", ""},
		{"*.txt", "a.txt .txt a/b.txt", "a.txt~ txt"},
		{"a*b*c", "abc aXbYc abbcc a/b/c", "ab acb"},
		{"?", "a ä \xff /", "ab ää"},
		{"a?c", "abc a/c aäc a\xffc", "ac abbc"},
		{"[abc]", "a c", "d ab"},
		{"[a-c]x", "ax bx", "dx x"},
		{"[!a-c]", "d ä", "a"},
		{"[^a-c]", "d", "b"},
		{"[]a]", "] a", "b"},
		{"[!]a]", "b", "] a"},
		{"[a-]", "a -", "b"},
		{"[[:digit:]x]", "5 x", "a"},
		{"[[:upper:]]*", "Abc Ä", "abc"},
		{"[à-ü]", "ä é", "z"},
		{`\*`, "*", "a"},
		{`[\]]`, "]", `\`},
		{"[abc", "[abc", "a"},
		{`a\`, `a\`, "a"},
		{"\xff*", "\xff \xffa", "\xfe"},
		{"dir/*", "dir/a dir/a/b", "dir xdir/a"},
	} {
		for name := range strings.SplitSeq(c.yes, " ") {
			if !MatchGlob(c.pattern, name) {
				t.Errorf("%q does not match %q", c.pattern, name)
			}
		}
		for name := range strings.SplitSeq(c.no, " ") {
			if MatchGlob(c.pattern, name) && c.no != "" {
				t.Errorf("%q matches %q", c.pattern, name)
			}
		}
	}
}

// Where path.Match of the standard library says the same by its own rules, it has to agree.
func FuzzMatchGlob(f *testing.F) {
	f.Add("a*[b-d]?", "axxce")
	f.Add("[!a]", "b")
	f.Add(`\[*`, "[x")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		got := MatchGlob(pattern, name)
		want, err := path.Match(pattern, name)
		if err != nil || strings.ContainsAny(pattern+name, "/\x00") || strings.Contains(pattern, "[!") || strings.Contains(pattern, "[:") ||
			strings.ToValidUTF8(pattern, "") != pattern || strings.Contains(name, "\uFFFD") || strings.ToValidUTF8(name, "") != name {
			return
		}
		if got != want && !strings.Contains(pattern, "[]") && !strings.Contains(pattern, "[^]") {
			t.Errorf("%q and %q: %v, path.Match says %v", pattern, name, got, want)
		}
	})
}
