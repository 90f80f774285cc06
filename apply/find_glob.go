package apply

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MatchGlob tells whether a name or path matches a pattern, as find -name and find -path do (fnmatch(3) without flags): * is any number of
// any characters, / and a leading . among them; ? is one character; [a-z] is one of a set, [!a-z] or [^a-z] one of all others, with
// classes as [[:digit:]]; a backslash takes the next character as it is. A byte that is no UTF-8 counts as a character. A
// [ that nothing closes is itself.
func MatchGlob(pattern, name string) bool {
	p, n := 0, 0
	star, from := -1, 0 // where to go on with one character more for the last *
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			star, from = p, n
			p++
			continue
		}
		if width, taken, ok := matchOne(pattern[p:], name[n:]); ok {
			p, n = p+taken, n+width
			continue
		}
		if star < 0 {
			return false
		}
		_, width := utf8.DecodeRuneInString(name[from:])
		from += width
		p, n = star+1, from
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchOne matches one character: width is its length in the name, taken that of what stands for it in the pattern.
func matchOne(pattern, name string) (width, taken int, ok bool) {
	if pattern == "" {
		return 0, 0, false
	}
	r, width := utf8.DecodeRuneInString(name)
	switch pattern[0] {
	case '?':
		return width, 1, true
	case '[':
		if taken, in := matchSet(pattern, r); taken > 0 {
			return width, taken, in
		}
	case '\\':
		if len(pattern) > 1 {
			return 1, 2, pattern[1] == name[0]
		}
	}
	return 1, 1, pattern[0] == name[0]
}

// matchSet matches a character with the set at the beginning of pattern. taken is the length of the set; 0: it is none.
func matchSet(pattern string, r rune) (taken int, in bool) {
	i, not := 1, false
	if i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^') {
		i, not = 2, true
	}
	for first := true; i < len(pattern); first = false {
		if pattern[i] == ']' && !first {
			return i + 1, in != not
		}
		if name, rest, ok := strings.Cut(pattern[i:], ":]"); ok && strings.HasPrefix(name, "[:") && classes[name[2:]] != nil {
			in = in || classes[name[2:]](r)
			i = len(pattern) - len(rest)
			continue
		}
		low, next := setMember(pattern, i)
		high := low
		if next+1 < len(pattern) && pattern[next] == '-' && pattern[next+1] != ']' {
			high, next = setMember(pattern, next+1)
		}
		in = in || low <= r && r <= high
		i = next
	}
	return 0, false
}

// setMember reads one character of a set.
func setMember(pattern string, i int) (r rune, next int) {
	if pattern[i] == '\\' && i+1 < len(pattern) {
		i++
	}
	r, width := utf8.DecodeRuneInString(pattern[i:])
	return r, i + width
}

var classes = map[string]func(rune) bool{
	"alnum": func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }, "alpha": unicode.IsLetter, "digit": isDigit,
	"blank": func(r rune) bool { return r == ' ' || r == '\t' }, "cntrl": unicode.IsControl, "graph": func(r rune) bool { return unicode.IsGraphic(r) && r != ' ' },
	"lower": unicode.IsLower, "upper": unicode.IsUpper, "print": unicode.IsPrint, "space": unicode.IsSpace,
	"punct":  func(r rune) bool { return unicode.IsPunct(r) || unicode.IsSymbol(r) },
	"xdigit": func(r rune) bool { return isDigit(r) || 'a' <= r && r <= 'f' || 'A' <= r && r <= 'F' },
}

func isDigit(r rune) bool { return '0' <= r && r <= '9' }
