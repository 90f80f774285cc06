package apply_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"snapdiff/apply"
)

// alterCatalog runs a script on the catalog of a store.
func alterCatalog(t *testing.T, store, script string) {
	t.Helper()
	conn, err := sqlite.OpenConn(filepath.Join(store, "catalog.db"), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sqlitex.ExecuteScript(conn, script, nil), conn.Close()); err != nil {
		t.Fatal(err)
	}
}

// What is not of the tables, columns and indexes that its format has is a damaged catalog to whoever opens it, not an error of SQL later on. A
// format number that fits none of it is damaged too, and that of a newer program only with other tables.
func TestAlteredSchemaIsDamage(t *testing.T) {
	for script, damage := range map[string]string{
		`UPDATE sqlite_schema SET sql = replace(sql, 'how TEXT', 'hox TEXT') WHERE name = 'runs'`:                          "its table runs is not what it should be",
		`UPDATE sqlite_schema SET sql = replace(sql, 'gen INTEGER NOT NULL', 'gen INTEGER  OT NULL') WHERE name = 'links'`: "its table links",
		`UPDATE sqlite_schema SET sql = replace(sql, '16384', '16385') WHERE name = 'node_dir'`:                            "its index node_dir is not what",
		`DROP INDEX versions_run`:                                "its index versions_run is missing",
		`DROP TABLE trim`:                                        "its table trim is missing",
		`CREATE TABLE more(a INTEGER)`:                           "it has a strange table more",
		`PRAGMA user_version = 99`:                               "its format is not 99: its tables are those of format 4",
		`PRAGMA user_version = 2`:                                "its table links is not what it should be",
		`PRAGMA user_version = 99; CREATE TABLE more(a INTEGER)`: "",
	} {
		store := filepath.Join(t.TempDir(), "store")
		if err := apply.Init(store); err != nil {
			t.Fatal(err)
		}
		alterCatalog(t, store, "PRAGMA writable_schema = 1;"+script)
		_, writing := apply.Open(store)
		_, reading := apply.OpenReadOnly(store)
		_, points := apply.RestorePoints(store, "")
		_, view := apply.OpenView(store, "", 1)
		for _, err := range []error{writing, reading, points, view} {
			switch {
			case damage == "" && errors.Is(err, apply.ErrFormat) && !apply.IsDamage(err):
			case damage != "" && apply.IsDamage(err) && strings.Contains(err.Error(), damage):
			default:
				t.Errorf("%s: %v", script, err)
			}
		}
	}
}

// A catalog of each older format is sound as it is, and after it was upgraded.
func TestDoctorOfOlderFormats(t *testing.T) {
	store, _ := format1(t)
	if err := os.WriteFile(filepath.Join(store, "lock"), nil, 0o600); err != nil { // it was not packed
		t.Fatal(err)
	}
	for _, repair := range []bool{false, true} {
		found, err := apply.Examine(context.Background(), store, apply.DoctorOptions{Repair: repair})
		if err != nil {
			t.Fatal(err)
		}
		for _, trouble := range found {
			if !trouble.Note && !trouble.Mended {
				t.Errorf("repair %v: %+v", repair, trouble)
			}
		}
	}
	if left, err := filepath.Glob(store + "/catalog.db.damaged*"); err != nil || len(left) > 0 {
		t.Errorf("it was taken for damaged: %v %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(store, "history/r3/manifest")); err != nil {
		t.Error(err)
	}
}

// A number of the manifests' format that they do not have is damage, and not the work of a newer program.
func TestDoctorOfManifestsOfAnotherFormat(t *testing.T) {
	r := newExt4Rig(t)
	r.day(`echo a > a`, false, 0)
	r.day(`echo b > a`, false, 0)
	s, err := apply.Open(r.store)
	must(t, err)
	must(t, errors.Join(s.CompleteManifests(context.Background()), s.SetMeta("manifests", "6"), s.Close()))
	for _, repair := range []bool{false, true} {
		found, err := apply.Examine(context.Background(), r.store, apply.DoctorOptions{Repair: repair})
		if err != nil || len(found) == 0 || !found[0].Catalog || found[0].Mended != repair {
			t.Fatalf("repair %v: %+v %v", repair, found, err)
		}
	}
	r.judgeRuns(map[int64]string{1: r.taken[0].Path, 2: r.taken[1].Path})
}
