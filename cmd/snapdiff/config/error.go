package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Error is anything wrong with the configuration.
type Error struct {
	Path string
	Line int // from 1; 0 where it concerns the whole file
	Text string
	Next string // what to do about it; "" where the text says it
}

// Error gives "configuration FILE:LINE: what is wrong".
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("configuration %s: %s", e.Path, e.Text)
	}
	return fmt.Sprintf("configuration %s:%d: %s", e.Path, e.Line, e.Text)
}

// Hint is what to do next.
func (e *Error) Hint() string { return e.Next }

func decodeError(path string, data []byte, err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		return unknownKey(path, &strict.Errors[0])
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		line, _ := bad.Position()
		text := strings.TrimPrefix(bad.Error(), "toml: ")
		if key := strings.Join(bad.Key(), "."); key != "" {
			text = key + ": " + text
		}
		return &Error{Path: path, Line: line, Text: text}
	}
	return &Error{Path: path, Text: err.Error()}
}

// unknownKey names the key and, when one comes near, the one that was meant.
func unknownKey(path string, e *toml.DecodeError) error {
	line, _ := e.Position()
	key := e.Key()
	word, known := key[len(key)-1], keysOf(reflect.TypeFor[fileJob]())
	switch {
	case key[0] == "log" && len(key) > 1:
		known = keysOf(reflect.TypeFor[fileLog]())
	case key[0] != "jobs":
		word, known = key[0], keysOf(reflect.TypeFor[file]())
	}
	out := &Error{Path: path, Line: line, Text: fmt.Sprintf("unknown key %q", strings.Join(key, "."))}
	if len(key) > 3 && key[2] == "hooks" {
		known = keysOf(reflect.TypeFor[fileHooks]())
	}
	meant := known
	if key[0] == "jobs" { // the decoder does not say that a key stood in the inline table keep = {...}: its keys may be meant everywhere
		meant = append(keysOf(reflect.TypeFor[Keep]()), known...)
	}
	if near := Nearest(word, meant); near != "" {
		out.Next = fmt.Sprintf("did you mean %q?", near)
	} else {
		out.Next = "known here: " + strings.Join(known, ", ")
	}
	return out
}

// JobKeys are all keys that a job may have.
func JobKeys() []string { return keysOf(reflect.TypeFor[fileJob]()) }

func keysOf(t reflect.Type) []string {
	var keys []string
	for _, f := range reflect.VisibleFields(t) { // with those of embedded structs
		if key := f.Tag.Get("toml"); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// Nearest is the known word at most a third of its letters away, "" if there is none.
func Nearest(word string, known []string) string {
	best, bestAt := "", 0
	for _, k := range known {
		d := distance(strings.ToLower(word), strings.ToLower(k))
		if d <= 1+len(k)/3 && (best == "" || d < bestAt) {
			best, bestAt = k, d
		}
	}
	return best
}

// distance counts the letters to insert, delete or replace to make a of b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// lineOf finds the line of a key in a table ("jobs.mail"), or of the table itself, for messages: the decoder gives no positions
// of values that it took. 0 where the table is written in a way that this does not see (dotted or inline).
func lineOf(data []byte, name, key string) int {
	inside, table := false, 0
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			inside = strings.ReplaceAll(strings.Trim(line, "[] "), `"`, "") == name
			if inside {
				table = i + 1
			}
			continue
		}
		if !inside || key == "" {
			continue
		}
		if word, _, ok := strings.Cut(line, "="); ok && strings.TrimSpace(word) == key {
			return i + 1
		}
	}
	return table
}
