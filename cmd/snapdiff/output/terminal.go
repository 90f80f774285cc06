package output

import (
	"io"
	"os"

	"golang.org/x/term"
)

// IsTerminal tells whether w is a terminal: only there are tables aligned and progress bars shown.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Color is an ANSI colour.
type Color string

const (
	Red    Color = "31"
	Green  Color = "32"
	Yellow Color = "33"
)

// Colored gives a function that colours a word on w. It leaves words as they are where w is no terminal, where the terminal
// has no colours, and where the user wants none (NO_COLOR, see no-color.org).
func Colored(w io.Writer) func(c Color, word string) string {
	return colored(IsTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func colored(on bool) func(c Color, word string) string {
	return func(c Color, word string) string {
		if !on {
			return word
		}
		return "\x1b[" + string(c) + "m" + word + "\x1b[0m"
	}
}
