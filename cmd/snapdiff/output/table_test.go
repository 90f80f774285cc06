package output

import (
	"bytes"
	"testing"
)

func TestTable(t *testing.T) {
	headings, rows := []string{"ID", "NAME"}, [][]string{{"r1", "ä b"}, {"r17", ""}}
	for aligned, want := range map[bool]string{
		true:  "ID   NAME\nr1   ä b\nr17\n",
		false: "r1\tä b\nr17\t\n",
	} {
		var b bytes.Buffer
		if err := Table(&b, aligned, headings, rows); err != nil || b.String() != want {
			t.Errorf("aligned=%v: got %q, want %q (%v)", aligned, b.String(), want, err)
		}
	}
}

func TestJSONIsOneLineAndKeepsNamesReadable(t *testing.T) {
	var b bytes.Buffer
	v := struct {
		Path
		Bytes int64 `json:"bytes"`
	}{NewPath("a<b>\n"), 3}
	if err := JSON(&b, v); err != nil || b.String() != `{"path":"a<b>\n","bytes":3}`+"\n" {
		t.Errorf("%q %v", b.String(), err)
	}
	if IsTerminal(&b) {
		t.Error("a buffer is no terminal")
	}
}
