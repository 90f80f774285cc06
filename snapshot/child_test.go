package snapshot

import (
	"fmt"
	"testing"
)

func children(sources ...string) (m Mark) {
	for _, s := range sources {
		m.Children = append(m.Children, Child{Mark: Mark{Source: s}})
	}
	return m
}

func numbers(t *testing.T, m *Mark, last Mark) string {
	t.Helper()
	if err := m.Number(last); err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, c := range m.Children {
		text += fmt.Sprint(c.Mark.Source, c.Number, " ")
	}
	return text
}

// TestNumber: a child keeps its number as long as it is there, and no other gets one that was used.
func TestNumber(t *testing.T) {
	first, second, third, fourth := children("a", "b"), children("b", "c"), children("d", "b", "a"), children()
	last := Mark{}
	for i, m := range []struct {
		mark *Mark
		want string
	}{{&first, "a1 b2 "}, {&second, "b2 c3 "}, {&third, "d4 b2 a5 "}, {&fourth, ""}} {
		if got := numbers(t, m.mark, last); got != m.want {
			t.Errorf("run %d: %q, want %q", i+1, got, m.want)
		}
		last = *m.mark
	}
	last = third
	last.Numbered = MostChildren
	again := children("b", "e", "f")
	if got, want := numbers(t, &again, last), "b2 e1 f3 "; got != want {
		t.Errorf("when all were used: %q, want %q", got, want)
	}
	many := Mark{Children: make([]Child, MostChildren)}
	if err := many.Number(third); err == nil {
		t.Error("more children than there are numbers got some")
	}
}
