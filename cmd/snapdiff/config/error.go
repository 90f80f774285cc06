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
		return unknownKey(path, data, &strict.Errors[0])
	}
	var bad *toml.DecodeError
	if !errors.As(err, &bad) {
		return &Error{Path: path, Text: err.Error()}
	}
	line, column := bad.Position()
	text := strings.TrimPrefix(bad.Error(), "toml: ")
	if e, ok := entryAt(data, line, column); ok && (strings.HasPrefix(text, "cannot decode TOML ") || strings.HasPrefix(text, "cannot store ")) {
		return &Error{Path: path, Line: line, Text: wrongType(e)}
	}
	if key := strings.Join(bad.Key(), "."); key != "" {
		text = key + ": " + text
	}
	return &Error{Path: path, Line: line, Text: text}
}

// wrongType says that a value is of another type than its key needs. The decoder's own words are for those who write programs in Go.
func wrongType(e entry) string {
	p := placeOf(e.key)
	text := inTable(e.key[:max(p.known, 1)])
	if e.value != "" && p.known == len(e.key) {
		text += " = " + e.value
	}
	return text + ": " + p.needed()
}

// inTable is a key behind the header of the table in which people look for it: "[jobs.mail] keep.last".
func inTable(key []string) string {
	tables := 1 // [log]
	if key[0] == "jobs" {
		tables = 2
	}
	if len(key) > 3 && key[2] == "hooks" {
		tables = 3
	}
	if len(key) <= tables {
		return strings.Join(key, ".")
	}
	return "[" + strings.Join(key[:tables], ".") + "] " + strings.Join(key[tables:], ".")
}

// unknownKey names the key and, when one comes near, the one that was meant.
func unknownKey(path string, data []byte, bad *toml.DecodeError) error {
	line, column := bad.Position()
	key := []string(bad.Key())
	if e, ok := entryAt(data, line, column); ok { // the decoder does not say in which inline table it stood
		key = e.key
	}
	at := placeOf(key)
	known := keysOf(at.is)
	out := &Error{Path: path, Line: line, Text: fmt.Sprintf("unknown key %q", strings.Join(key, ".")), Next: "known here: " + strings.Join(known, ", ")}
	if near := Nearest(key[min(at.known, len(key)-1)], known); near != "" {
		meant := fmt.Sprintf("did you mean %q?", near)
		if len(known) <= fewKeys {
			meant += " K" + strings.TrimPrefix(out.Next, "k")
		}
		out.Next = meant
	}
	return out
}

// fewKeys are shown also where one of them is likely.
const fewKeys = 10

// JobKeys are all keys that a job may have.
func JobKeys() []string { return keysOf(reflect.TypeFor[fileJob]()) }

func keysOf(t reflect.Type) []string {
	var keys []string
	if t.Kind() != reflect.Struct {
		return nil
	}
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
