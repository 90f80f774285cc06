package output

import (
	"bytes"
	"os"
	"testing"
)

func TestColoursOnlyWhereTheyAreWanted(t *testing.T) {
	if got := colored(true)(Red, "no"); got != "\x1b[31mno\x1b[0m" {
		t.Errorf("%q", got)
	}
	if got := Colored(&bytes.Buffer{})(Red, "no"); got != "no" {
		t.Errorf("no terminal: %q", got)
	}
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	for _, c := range []struct{ noColor, term, want string }{{"", "xterm", "\x1b[31mno\x1b[0m"}, {"1", "xterm", "no"}, {"", "dumb", "no"}} {
		t.Setenv("NO_COLOR", c.noColor)
		t.Setenv("TERM", c.term)
		if got := Colored(terminal)(Red, "no"); got != c.want {
			t.Errorf("NO_COLOR=%q TERM=%q: %q, want %q", c.noColor, c.term, got, c.want)
		}
	}
}
