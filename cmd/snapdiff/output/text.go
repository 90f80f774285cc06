// Package output writes what commands have to say: tables for people on a terminal, plain columns for a pipe, one JSON
// object a line for programs. Names are bytes: every function here takes names that are no valid UTF-8.
package output

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Size is a number of bytes as people read it: "512 B", "1.5 KB", "12 GB" (powers of 1,000).
func Size(bytes int64) string {
	if bytes < 1000 {
		return strconv.FormatInt(bytes, 10) + " B"
	}
	value := float64(bytes)
	for _, unit := range []string{"KB", "MB", "GB", "TB", "PB"} {
		value /= 1000
		switch {
		case value < 9.95:
			return fmt.Sprintf("%.1f %s", value, unit)
		case value < 999.5:
			return fmt.Sprintf("%.0f %s", value, unit)
		}
	}
	return fmt.Sprintf("%.0f EB", value/1000)
}

// Count is a number with its thousands apart: "1,234,567".
func Count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// Duration is a time span as people read it: "420 ms", "4.2 s", "12 s", "3 min 20 s", "2 h 5 min".
func Duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 9950*time.Millisecond:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Truncate(time.Second).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

// Age is a Duration that may be long: from two days on in days.
func Age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 2*day:
		return Duration(d)
	}
	return fmt.Sprintf("%d days", d/day)
}

// Name is a path for people: on one line, with no control character that could act on the terminal. What cannot be
// shown as it is, is written as \n, \t or \xHH, and a backslash as \\, so that two names never look the same.
func Name(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); {
		r, n := utf8.DecodeRuneInString(path[i:])
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, path[i])
		case !strconv.IsPrint(r):
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// Text is what is said to people, lines of it perhaps, with no other control character that could act on the terminal: errors may have names of
// strangers' files in them, as they are.
func Text(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r != '\n' && !strconv.IsPrint(r):
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// Shorten leaves out the middle of a text for people that has more than so many characters: both ends of a long path tell where it is.
func Shorten(text string, most int) string {
	all := []rune(text)
	if len(all) <= most {
		return text
	}
	const between = " ... "
	end := (most - len(between)) / 2
	return string(all[:most-len(between)-end]) + between + string(all[len(all)-end:])
}

// Path is a path in JSON: embedded in an object it gives "path" and, where the bytes are no valid UTF-8, "path_b64",
// which then is the one that counts.
type Path struct {
	Path string `json:"path"`
	// B64 is the standard base64 of the bytes; "" where Path says it all.
	B64 string `json:"path_b64,omitempty"`
}

// NewPath makes a Path of a name's bytes. Bytes that are no UTF-8 show as U+FFFD in Path.
func NewPath(path string) Path {
	if utf8.ValidString(path) {
		return Path{Path: path}
	}
	return Path{Path: strings.ToValidUTF8(path, "\uFFFD"), B64: base64.StdEncoding.EncodeToString([]byte(path))}
}
