package config

import (
	"bytes"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// entry is a key, or the header of a table, as it stands in the file: the decoder does not say where the values are that it took, nor in
// which inline table a key is that it did not.
type entry struct {
	key    []string // from the top: jobs, mail, keep, last
	offset int      // of its first letter
	line   int      // from 1
	value  string   // as it is written, on one line; "" of a header
}

// entries lists what stands in a file, in its order, up to the first thing that is no TOML.
func entries(data []byte) []entry {
	var p unstable.Parser
	p.Reset(data)
	l := lister{p: &p}
	var table []string
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = l.add(nil, e)
		case unstable.KeyValue:
			l.add(table, e)
		}
	}
	return l.all
}

// lister collects entries.
type lister struct {
	p   *unstable.Parser
	all []entry
}

// add takes a header, or a key with its value, in a table, and gives the whole key.
func (l *lister) add(table []string, n *unstable.Node) []string {
	e := entry{key: slices.Clone(table)}
	end := 0
	for k := n.Key(); k.Next(); {
		part := k.Node()
		if end == 0 {
			e.offset = int(part.Raw.Offset)
		}
		e.key = append(e.key, string(part.Data))
		end = int(part.Raw.Offset + part.Raw.Length)
	}
	e.line = 1 + bytes.Count(l.p.Data()[:e.offset], []byte("\n"))
	if n.Kind != unstable.KeyValue {
		l.all = append(l.all, e)
		return e.key
	}
	written := string(l.p.Data()[end : n.Raw.Offset+n.Raw.Length])
	_, written, _ = strings.Cut(written, "=")
	first, _, more := strings.Cut(strings.TrimSpace(written), "\n")
	if e.value = strings.TrimSpace(first); more {
		e.value += " ..."
	}
	l.all = append(l.all, e)
	if value := n.Value(); value.Kind == unstable.InlineTable {
		for c := value.Children(); c.Next(); {
			l.add(e.key, c.Node())
		}
	}
	return e.key
}

// entryAt finds the key or header that a place in the file, as the decoder gives it, belongs to.
func entryAt(data []byte, line, column int) (found entry, ok bool) {
	begin := 0
	for range line - 1 {
		begin += bytes.IndexByte(data[begin:], '\n') + 1
	}
	for _, e := range entries(data) {
		if e.offset < begin+column {
			found, ok = e, true
		}
	}
	return found, ok
}

// lineOf is the line of a key, for messages; where that is not in the file, the line of the table that it would be in. 0 where there is none.
func lineOf(data []byte, key ...string) int {
	all := entries(data)
	for ; len(key) > 0; key = key[:len(key)-1] {
		i := slices.IndexFunc(all, func(e entry) bool { return slices.Equal(e.key, key) })
		if i < 0 { // of a table only keys may be there: jobs.mail.keep
			i = slices.IndexFunc(all, func(e entry) bool { return len(e.key) > len(key) && slices.Equal(e.key[:len(key)], key) })
		}
		if i >= 0 {
			return all[i].line
		}
	}
	return 0
}

// place is what may stand at a key of the file.
type place struct {
	known int          // so many of the key's words are known
	is    reflect.Type // what the last known word means: the type of its value
	like  string       // an example of it
}

// placeOf looks a key up in the shape of the document.
func placeOf(key []string) place {
	p := place{is: reflect.TypeFor[file]()}
	for _, word := range key {
		switch p.is.Kind() {
		case reflect.Map: // of jobs, by their names
			p.is, p.like = p.is.Elem(), "[jobs.mail]"
		case reflect.Struct:
			fields := reflect.VisibleFields(p.is)
			i := slices.IndexFunc(fields, func(f reflect.StructField) bool { // the decoder does not mind capitals either
				return f.Tag.Get("toml") != "" && strings.EqualFold(f.Tag.Get("toml"), word)
			})
			if i < 0 {
				return p
			}
			p.is, p.like = fields[i].Type, fields[i].Tag.Get("like")
			if p.is.Kind() == reflect.Pointer {
				p.is = p.is.Elem()
			}
		default:
			return p
		}
		p.known++
	}
	return p
}

// needed says what has to stand there.
func (p place) needed() string {
	switch p.is.Kind() {
	case reflect.Bool:
		return "true or false is needed"
	case reflect.Int:
		return "a whole number is needed: " + p.like
	case reflect.Slice:
		return "a list is needed: " + p.like
	case reflect.String:
		return "a text in quotes is needed: " + p.like
	}
	return "a table is needed: " + p.like
}
