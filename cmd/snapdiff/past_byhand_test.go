package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"snapdiff/apply/applytest"
)

// byHand gets files out of a store as docs/store-format.md says, with its own words, the sqlite3 program and a shell.
type byHand struct {
	*testing.T
	store, point string
	query        []string // those of the document, in its order
}

// handBook reads the queries out of the document.
func handBook(t *testing.T, store string) *byHand {
	t.Helper()
	text, err := os.ReadFile("../../docs/store-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(text), "## Getting files out without snapdiff")
	part, _, _ = strings.Cut(part, "## The catalog")
	h := &byHand{T: t, store: store}
	part = strings.ReplaceAll(part, "\n       ...>", "")
	for _, m := range regexp.MustCompile(`(?m)^    sqlite> (.*)$`).FindAllStringSubmatch(part, -1) {
		line, _, _ := strings.Cut(m[1], "    -- ")
		h.query = append(h.query, line)
	}
	return h
}

// ask gives what one query of the document answers, that which has some words in it, with other values.
func (h *byHand) ask(words string, values ...string) string {
	h.Helper()
	for _, q := range h.query {
		if !strings.Contains(q, words) {
			continue
		}
		cmd := exec.Command("sqlite3", "-readonly", "catalog.db")
		cmd.Dir, cmd.Stdin = h.store, strings.NewReader(".param set @d "+h.point+"\n"+strings.NewReplacer(values...).Replace(q)+"\n")
		out, err := cmd.CombinedOutput()
		if err != nil {
			h.Fatalf("sqlite3: %v\n%s", err, out)
		}
		return strings.TrimSuffix(string(out), "\n")
	}
	h.Fatalf("the document has no query with %q", words)
	return ""
}

// get copies the file at path to a new file by hand; false: it was not there.
func (h *byHand) get(path, to string) bool {
	h.Helper()
	dir, node, name := "", "1", ""
	for name = range strings.SplitSeq(path, "/") {
		if node == "" || h.sh("sqlite3 -readonly catalog.db 'SELECT type FROM nodes WHERE id = "+node+"'") != "16384" {
			return false // nothing is below a file
		}
		quoted := "CAST('" + name + "' AS BLOB)"
		dir = node
		node = h.ask("FROM entries WHERE dir = 1", "dir = 1", "dir = "+dir, "SELECT node", "SELECT ifnull(node, 'none')", "CAST('mail' AS BLOB)", quoted)
		if node == "none" {
			return false
		}
		if node == "" {
			node = h.ask("FROM nodes WHERE parent = 1", "parent = 1", "parent = "+dir, "CAST('mail' AS BLOB)", quoted)
		}
		if node == "" {
			node = h.ask("FROM names WHERE dir = 12", "dir = 12", "dir = "+dir, "CAST('letter.txt' AS BLOB)", quoted)
		}
	}
	from, first := h.inTree(dir+"|"+name), ""
	if node != "" {
		from = h.inTree(h.sh("sqlite3 -readonly catalog.db 'SELECT dir, name FROM names WHERE node = " + node + " LIMIT 1'"))
		if in := h.ask("content = 1 ORDER BY run LIMIT 1;", "node = 17", "node = "+node); in != "" {
			from = in
		}
		first = h.ask("SELECT content, size", "node = 17", "node = "+node)
	}
	if st, err := os.Lstat(filepath.Join(h.store, from)); err != nil || !st.Mode().IsRegular() {
		return false
	}
	h.sh("cp " + from + " " + to)
	if size, found := strings.CutPrefix(first, "2|"); found {
		parts := h.ask("SELECT 'dd if=", "node = 17", "node = "+node, "/17.saved", "/"+node+".saved", "/tmp/letter.txt", to)
		h.sh(parts + "\ntruncate -s " + size + " " + to)
	}
	return true
}

// inTree is where a name of the mirror, "DIRECTORY|NAME", is.
func (h *byHand) inTree(live string) string {
	dir, name, found := strings.Cut(live, "|")
	switch {
	case !found || dir == "": // it is not in the mirror, nor is its directory
		return "nowhere"
	case dir == "0":
		return "tree"
	}
	return filepath.Join(h.inTree(h.sh("sqlite3 -readonly catalog.db 'SELECT parent, name FROM nodes WHERE id = "+dir+"'")), name)
}

func (h *byHand) sh(script string) string {
	h.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = h.store
	out, err := cmd.Output()
	if err != nil {
		h.Fatalf("%s: %v", script, err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// What the document on the store says about getting files out without snapdiff gives every file of every restore point.
func TestGettingOutWithoutSnapdiff(t *testing.T) {
	b := newJobBench(t, "")
	b.store = filepath.Join(applytest.Mount(t, applytest.Ext4), "store")
	b.configure("")
	b.write("mail/anna/letter.txt", "mail/anna/same", "mail/bert/note", "top", "gone/deep/1")
	b.sh("head -c 9000000 /dev/urandom > $S/mail/large")
	b.snapdiff(0, "init")
	old := t.TempDir()
	for i, script := range []string{
		"true",
		"echo second > mail/anna/letter.txt; echo x | dd of=mail/large conv=notrunc bs=1 seek=4000000",
		"mv mail/anna mail/carl; echo third > mail/carl/letter.txt; rm -r gone; rm top; mkdir top; echo > top/below",
		"echo y | dd of=mail/large conv=notrunc bs=1 seek=8500000; truncate -s 8700000 mail/large; mv mail/bert/note mail/note; echo again > mail/note",
		"rm mail/large mail/carl/letter.txt; mkdir -p gone/deep; echo new > gone/deep/1",
	} {
		b.sh("cd $S; " + script)
		b.silent("run")
		b.sh("cp -a $S " + filepath.Join(old, string(rune('1'+i))))
	}
	paths := strings.Fields("mail/anna/letter.txt mail/anna/same mail/bert/note top gone/deep/1 mail/large mail/carl/letter.txt mail/carl/same top/below mail/note never")
	h := handBook(t, b.store)
	patched := h.sh("ls history/*/*.saved | wc -l")
	if patched != "2" {
		t.Fatalf("%s large files were patched in place, want 2", patched)
	}
	for point := range 5 {
		h.point = string(rune('1' + point))
		for _, path := range paths {
			want, err := os.ReadFile(filepath.Join(old, h.point, path))
			to := filepath.Join(t.TempDir(), "letter.txt")
			got, there := []byte(nil), h.get(path, to)
			if there {
				b.must(os.Chmod(to, 0o600))
				got, _ = os.ReadFile(to)
			}
			if there != (err == nil) || string(got) != string(want) {
				t.Errorf("r%s: %s: there %v, %d bytes, want %v, %d bytes", h.point, path, there, len(got), err == nil, len(want))
			}
		}
	}
	if got := h.ask("SELECT id, datetime"); strings.Count(got, "\n") != 4 {
		t.Errorf("restore points:\n%s", got)
	}
}
