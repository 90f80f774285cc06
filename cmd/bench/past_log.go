package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// logged asks for the history of one file in a catalog of 1,000,000 rows of history.
func (p *past) logged(target string) error {
	store, config := filepath.Join(target, "log"), filepath.Join(p.work, "log.toml")
	text := fmt.Sprintf("[jobs.log]\nsource = %q\nstore = %q\n", p.source, store)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	if err := command(p.binary, "--config", config, "init"); err != nil {
		return err
	}
	conn, err := sqlite.OpenConn(filepath.Join(store, "catalog.db"), sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	if err := errors.Join(sqlitex.ExecuteScript(conn, bigCatalog, nil), conn.Close()); err != nil {
		return fmt.Errorf("filling a catalog: %w", err)
	}
	for i := range 1000 {
		if err := os.MkdirAll(filepath.Join(store, "tree", fmt.Sprintf("d%d", i)), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(store, "tree/d7/hot"), []byte("now"), 0o600); err != nil {
		return err
	}
	const what = "log of one path in 1,000,000 rows of history, the whole command"
	for range 5 * p.repeat {
		if err := p.compare(what, "below 0.050 s", "", nil, []string{p.binary, "--config", config, "log", "d7/hot"}); err != nil {
			return err
		}
	}
	return nil
}

// bigCatalog fills a catalog: 400 runs, 1,000 directories with 1,000 files each of which half changed once and half were renamed once. One
// file changed in every run, and the directory above it moved in every tenth. Directory dN is node 2+N, file F of it node
// 1000+1000*N+F, hot is node 5000000.
const bigCatalog = `
	WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
		INSERT INTO runs(id, state, how, reason, date, started, mark) SELECT i, 'done', 'native', '', i * 86400000000000, 0, '{}' FROM n;
	INSERT INTO nodes(id, ino, gen, parent, name, type, alive) VALUES (1, 1, 1, 0, x'', 16384, 1);
	WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
		INSERT INTO nodes(id, ino, gen, parent, name, type, alive) SELECT 2 + i, 2 + i, 1, 1, CAST('d' || i AS BLOB), 16384, 1 FROM n;
	WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999999)
		INSERT INTO nodes(id, ino, gen, type, alive) SELECT 2000 + i, 2000 + i, 1, 32768, 1 FROM n;
	WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 499999)
		INSERT INTO versions SELECT 2000 + i, 2 + i % 398, 33188, 0, 0, 0, 5, 7, 0, 1, NULL, 1 FROM n;
	WITH RECURSIVE n(i) AS (SELECT 500000 UNION ALL SELECT i + 1 FROM n WHERE i < 999999)
		INSERT INTO entries SELECT 2 + i / 1000, CAST('old' || i AS BLOB), 2 + i % 398, 2000 + i FROM n;
	INSERT INTO names SELECT 2 + (id - 2000) / 1000, CAST('f' || (id - 2000) AS BLOB), id FROM nodes WHERE id >= 2000;
	INSERT INTO nodes(id, ino, gen, type, alive) VALUES (5000000, 5000000, 1, 32768, 1);
	INSERT INTO names VALUES (9, CAST('hot' AS BLOB), 5000000);
	WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
		INSERT INTO versions SELECT 5000000, i, 33188, 0, 0, 0, i, i, 0, 1, NULL, 1 FROM n;
	WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 10 FROM n WHERE i < 400)
		INSERT INTO entries SELECT 1, CAST('d7-' || i AS BLOB), i, 9 FROM n;
	WITH RECURSIVE n(i) AS (SELECT 20 UNION ALL SELECT i + 10 FROM n WHERE i < 400)
		INSERT INTO entries SELECT 1, CAST('d7-' || i AS BLOB), i - 10, NULL FROM n;
	INSERT INTO entries VALUES (1, CAST('d7' AS BLOB), 400, NULL);`
