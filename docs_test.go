package snapdiff

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"snapdiff/apply/applytest"
)

// filesEndingIn are all files of the project with a suffix; what lies below testdata/ of a package too.
func filesEndingIn(t *testing.T, suffix string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == ".git" || path == "dist"):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, suffix):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// testsOf are the names of all tests, benchmarks and fuzz targets as docs/field-notes.md writes them, "diff/zfsfeed TestUnknown", and
// the strings in the test files of each package, among which the names of subtests are.
func testsOf(t *testing.T) (tests map[string]bool, words map[string]map[string]bool) {
	t.Helper()
	tests, words = map[string]bool{}, map[string]map[string]bool{}
	for _, path := range filesEndingIn(t, "_test.go") {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(path)
		if words[dir] == nil {
			words[dir] = map[string]bool{}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil {
					tests[dir+" "+n.Name.Name] = true
				}
			case *ast.BasicLit:
				if word, err := strconv.Unquote(n.Value); n.Kind == token.STRING && err == nil {
					words[dir][word] = true
				}
			}
			return true
		})
	}
	return tests, words
}

var (
	code     = regexp.MustCompile("`[^`]+`")
	testCode = regexp.MustCompile("^`(\\S+ (?:Test|Fuzz|Benchmark)\\w+)(?:/([^`]+))?`$")
	looksSo  = regexp.MustCompile(`\b(Test|Fuzz|Benchmark)[A-Z]`)
)

// TestFieldNotes: each row of docs/field-notes.md names what shows it, or says why nothing can; and what it names is there.
func TestFieldNotes(t *testing.T) {
	text, err := os.ReadFile("docs/field-notes.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, words := testsOf(t)
	scenarios := map[string]bool{}
	for _, s := range applytest.Scenarios {
		scenarios[s.Name] = true
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || strings.Contains(line, "---") || strings.HasPrefix(line, "| fact") {
			continue
		}
		rows++
		shown := strings.Contains(line, "not tested: ")
		for _, c := range code.FindAllString(cells[len(cells)-1], -1) {
			name, scenario := strings.CutPrefix(strings.Trim(c, "`"), "scenario: ")
			m := testCode.FindStringSubmatch(c)
			switch {
			case scenario:
				if shown = true; !scenarios[name] {
					t.Errorf("there is no scenario %q in applytest.Scenarios", name)
				}
			case m != nil:
				dir, _, _ := strings.Cut(m[1], " ")
				if shown = true; !tests[m[1]] || m[2] != "" && !words[dir][m[2]] {
					t.Errorf("there is no test %s", c)
				}
			case looksSo.MatchString(c):
				t.Errorf("%s is not written as `FOLDER TestName` or `FOLDER TestName/part`", c)
			}
		}
		if len(cells) != 3 || !shown {
			t.Errorf("this row needs three cells and, in the last, a test, a scenario or \"not tested: why\":\n%s", line)
		}
	}
	if rows < 50 {
		t.Errorf("only %d rows are read: has the table another shape?", rows)
	}
}

var (
	fenced = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// headings are the anchors of a Markdown file, made as the usual web interfaces of git make them.
func headings(t *testing.T, path string) map[string]bool {
	t.Helper()
	anchors := map[string]bool{}
	for line := range strings.Lines(markdown(t, path)) {
		if title := strings.TrimLeft(line, "#"); title != line && strings.HasPrefix(title, " ") {
			anchors[strings.Map(func(r rune) rune {
				switch {
				case r == ' ':
					return '-'
				case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
					return unicode.ToLower(r)
				}
				return -1
			}, strings.TrimSpace(title))] = true
		}
	}
	return anchors
}

// markdown reads a file without what it shows as code.
func markdown(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fenced.ReplaceAllString(string(text), "")
}

// TestLinksBetweenDocuments: relative links of the Markdown files lead to a file and, behind '#', to a heading in it.
func TestLinksBetweenDocuments(t *testing.T) {
	found := 0
	for _, path := range filesEndingIn(t, ".md") {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(markdown(t, path), ""), -1) {
			to, err := url.Parse(m[1])
			if err != nil || to.Scheme != "" {
				continue
			}
			found++
			target := path
			if to.Path != "" {
				target = filepath.Join(filepath.Dir(path), to.Path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", path, m[1])
			} else if to.Fragment != "" && !headings(t, target)[to.Fragment] {
				t.Errorf("%s: %s has no such heading", path, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no link was found: does this test still read them?")
	}
}
