package output

import (
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// JSON writes v as one line.
func JSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// colorCode is what Colored puts around a word.
var colorCode = regexp.MustCompile("\x1b\\[[0-9]*m")

// columns is how wide a cell is on a terminal.
func columns(cell string) int {
	return utf8.RuneCountInString(colorCode.ReplaceAllString(cell, ""))
}

// Table writes rows of cells. On a terminal (aligned) they stand below their headings, otherwise each row is one line
// with tabs between the cells and there are no headings. Cells must not hold tabs or newlines (see Name).
func Table(w io.Writer, aligned bool, headings []string, rows [][]string) error {
	var b strings.Builder
	if !aligned {
		for _, row := range rows {
			b.WriteString(strings.Join(row, "\t") + "\n")
		}
		_, err := io.WriteString(w, b.String())
		return err
	}
	all := append([][]string{headings}, rows...)
	widths := make([]int, len(headings))
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	for _, row := range all {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", widths[i]-columns(cell)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
