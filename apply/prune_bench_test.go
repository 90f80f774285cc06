package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"zombiezen.com/go/sqlite/sqlitex"
)

// BenchmarkPrune drops the middle one of three restore points, after which 100,000 files changed twice: half of the contents
// that the last run kept are handed to the run before it, the others are removed.
func BenchmarkPrune(b *testing.B) {
	const files = 100_000
	for b.Loop() {
		b.StopTimer()
		store := filepath.Join(b.TempDir(), "store")
		if err := Init(store); err != nil {
			b.Fatal(err)
		}
		s, err := Open(store)
		if err != nil {
			b.Fatal(err)
		}
		err = sqlitex.ExecuteScript(s.conn, fmt.Sprintf(`
			INSERT INTO runs(id, state, how, reason, date, started, mark) VALUES (1, 'done', 'first', '', 1, 1, '{}'), (2, 'done', 'native', '', 2, 2, '{}'), (3, 'done', 'native', '', 3, 3, '{}');
			INSERT INTO nodes(id, ino, gen, type, alive) WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i <= %d) SELECT i, i, 1, 32768, 1 FROM n;
			INSERT INTO versions(node, run, content) SELECT id, 2, id %% 2 FROM nodes WHERE id > 1;
			INSERT INTO versions(node, run, content) SELECT id, 3, 1 FROM nodes WHERE id > 1;`, files), nil)
		if err != nil {
			b.Fatal(err)
		}
		for _, run := range []string{"r2", "r3"} {
			if err := os.Mkdir(filepath.Join(store, "history", run), 0o700); err != nil {
				b.Fatal(err)
			}
			for i := 2; i <= files+1; i++ {
				if run == "r2" && i%2 == 0 {
					continue // only the mode changed
				}
				if err := os.WriteFile(filepath.Join(store, "history", run, fmt.Sprint(i)), nil, 0o600); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.StartTimer()
		if _, err := s.Prune(context.Background(), []int64{2}, Options{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := errors.Join(s.Close(), os.RemoveAll(store)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
