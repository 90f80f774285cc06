package apply_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"snapdiff/apply/applytest"
)

// recipe gives the statements for sqlite3 that docs/store-format.md shows, one that holds each of the texts.
func recipe(t *testing.T, texts ...string) (statements []string) {
	t.Helper()
	doc, err := os.ReadFile("../docs/store-format.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(doc)) {
		if s, ok := strings.CutPrefix(line, "    sqlite> "); ok {
			all = append(all, s)
		} else if s, ok := strings.CutPrefix(line, "       ...> "); ok {
			all[len(all)-1] += s
		}
	}
	for _, text := range texts {
		found := ""
		for _, s := range all {
			if found == "" && strings.Contains(s, text) {
				found = s
			}
		}
		if found == "" {
			t.Fatalf("the document shows no statement with %q", text)
		}
		statements = append(statements, found)
	}
	return statements
}

// What docs/store-format.md says of getting files out without snapdiff is right, also for those of which only parts were kept: sqlite3, cp, dd
// and truncate make of them what they were.
func TestRecipeWithoutSnapdiff(t *testing.T) {
	applytest.NeedRoot(t)
	smallPatches(t)
	p := newPruneRig(t, applytest.Ext4)
	p.day(`head -c 300000 /dev/urandom > f`)
	node := 0
	for i, script := range []string{
		`printf one | dd of=f bs=1 seek=50000 conv=notrunc status=none; printf one | dd of=f bs=1 seek=200000 conv=notrunc status=none`,
		`printf two | dd of=f bs=1 seek=50100 conv=notrunc status=none; truncate -s 250000 f`,
		`head -c 60000 /dev/urandom >> f; fallocate -p -o 8192 -l 8192 f`,
		`head -c 280000 /dev/urandom > f`,
		`printf four | dd of=f bs=1 seek=9000 conv=notrunc status=none; chmod 600 f`,
		`chmod 644 f`,
		`printf five | dd of=f bs=1 seek=9000 conv=notrunc status=none`,
	} {
		p.day(script)
		if i == 5 {
			p.drop(2, 6)
		}
	}
	if n := sqlCount(t, p.store, "versions WHERE content = 2"); n < 3 {
		t.Fatalf("%d versions have saved ranges", n)
	}
	parts := recipe(t, ".param set", "AND content = 1 ORDER BY run", "content, size FROM versions", "FROM saved WHERE")
	out := filepath.Join(t.TempDir(), "letter.txt")
	script := filepath.Join(t.TempDir(), "parts.sh")
	sqlite := func(input string) string {
		t.Helper()
		cmd := exec.Command("sqlite3", "-readonly", "catalog.db")
		cmd.Dir, cmd.Stdin = p.store, strings.NewReader(input)
		text, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, text, input)
		}
		return strings.TrimSpace(string(text))
	}
	fmt.Sscan(sqlite("SELECT node FROM names WHERE name = CAST('f' AS BLOB);"), &node)
	if node == 0 {
		t.Fatal("the file has no node")
	}
	for _, run := range p.kept() {
		begin := strings.Replace(parts[0], "@d 3", fmt.Sprintf("@d %d", run), 1)
		of := func(statement string) string {
			s := strings.ReplaceAll(statement, "node = 17", fmt.Sprintf("node = %d", node))
			return strings.ReplaceAll(strings.ReplaceAll(s, "/17.saved", fmt.Sprintf("/%d.saved", node)), "/tmp/letter.txt", out)
		}
		from := sqlite(begin + of(parts[1]))
		if from == "" {
			from = "tree/f"
		}
		content, size := 0, 0
		fmt.Sscanf(sqlite(begin+of(parts[2])), "%d|%d", &content, &size)
		commands := fmt.Sprintf("cp %s %s", from, out)
		if content == 2 {
			sqlite(begin + ".once " + script + "\n" + of(parts[3]))
			commands += fmt.Sprintf(" && sh %s && truncate -s %d %s", script, size, out)
		}
		sh(t, p.store, commands)
		want, err := os.ReadFile(filepath.Join(p.taken[run-1].Path, "f"))
		must(t, err)
		got, err := os.ReadFile(out)
		must(t, err)
		if !bytes.Equal(want, got) {
			t.Errorf("r%d: the file that was put together by hand differs (content %d, %s)", run, content, commands)
		}
		must(t, os.Remove(out))
	}
}
