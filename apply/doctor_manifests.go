package apply

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"zombiezen.com/go/sqlite"
)

// manifests compares the manifests with the catalog: they have checksums, so where both are whole and differ the catalog is damaged.
func (d *doctor) manifests() error {
	known, err := d.s.Meta(metaManifests)
	if err != nil {
		return err
	}
	runs, err := d.s.numbers(`SELECT id FROM (` + runsWithManifests + `) ORDER BY id`)
	if err != nil {
		return err
	}
	if n, err := strconv.Atoi(known); err == nil && n > manifestFormat && len(runs) > 0 {
		if _, err := d.s.readManifest(runs[len(runs)-1], manifestVisitor{}); err == nil {
			return &DamagedCatalog{fmt.Errorf("it says that manifests have format %d, and they have %d", n, manifestFormat)}
		}
	}
	if known != strconv.Itoa(manifestFormat) {
		if len(runs) > 0 {
			return d.mend(Trouble{Text: "the manifests are of an older format, or behind: without the catalog they do not say enough; the next run writes them",
				Mend: "writes them", Note: true}, func() error { return d.s.CompleteManifests(d.ctx) })
		}
		return nil
	}
	behind := false // of their rows, which whoever was cut off brings in order
	err = d.s.query(`SELECT 1 FROM pruning UNION SELECT 1 FROM meta WHERE key = '`+metaStale+`' AND value <> ''`, func(*sqlite.Stmt) error { behind = true; return nil })
	if err != nil {
		return err
	}
	cut, err := d.cutOff()
	if err != nil {
		return err
	}
	var bad []Trouble
	news := d.o.tell("comparing manifests with the catalog")
	for i, run := range runs {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		news.at(i, len(runs))
		if cut && i == len(runs)-1 {
			continue
		}
		differ, err := d.s.manifestDiffers(run)
		switch {
		case err == nil && (differ == "" || behind):
			continue
		case err == nil:
			return &DamagedCatalog{fmt.Errorf("it is not what history/r%d/manifest says: %s", run, differ)}
		case !missing(err) && !errors.Is(err, errManifest) && !errors.Is(err, errOldManifest):
			return err
		}
		text := fmt.Sprintf("history/r%d/manifest cannot be read: %v", run, err)
		if missing(err) {
			text = fmt.Sprintf("history/r%d/manifest is missing", run)
		}
		bad = append(bad, Trouble{Text: text, Mend: "writes all manifests anew from the catalog"})
	}
	// It may have told more than what its rows speak of.
	writeAll := sync.OnceValue(func() error { return d.s.writeAllManifests(d.ctx) })
	for _, t := range bad {
		if err := d.mend(t, writeAll); err != nil {
			return err
		}
	}
	return nil
}

// manifestDiffers says what of a manifest is not in the catalog as it says; "" when all is.
func (s *Store) manifestDiffers(run int64) (differ string, err error) {
	said := func(format string, args ...any) {
		if differ == "" {
			differ = fmt.Sprintf(format, args...)
		}
	}
	entries, versions, saved := int64(0), int64(0), int64(0)
	h, err := s.readManifest(run, manifestVisitor{
		entry: func(dir int64, name string, node int64) error {
			entries++
			found := int64(-1)
			err := s.query(`SELECT node FROM entries WHERE dir = ? AND name = ? AND run = ?`, func(row *sqlite.Stmt) error { found = row.ColumnInt64(0); return nil }, dir, []byte(name), run)
			if found != node {
				said("what %q in directory %d was", name, dir)
			}
			return err
		},
		version: func(v manifestVersion) error {
			versions++
			same, err := s.hasVersion(run, v)
			if !same {
				said("what node %d was", v.node)
			}
			return err
		},
		saved: func(node int64, r savedRange) error {
			saved++
			found := false
			err := s.query(`SELECT 1 FROM saved WHERE node = ? AND run = ? AND off = ? AND len = ? AND object = ?`, func(*sqlite.Stmt) error { found = true; return nil },
				node, run, r.Off, r.Len, r.object)
			if !found {
				said("where saved ranges of node %d are", node)
			}
			return err
		},
	})
	if err != nil {
		return "", err
	}
	for table, n := range map[string]int64{"entries": entries, "versions": versions} {
		rows, err := s.numbers(`SELECT count(*) FROM `+table+` WHERE run = ?`, run)
		if err != nil {
			return "", err
		}
		if rows[0] != n {
			said("it has %d rows of %s, the manifest %d", rows[0], table, n)
		}
	}
	rows, err := s.numbers(`SELECT count(*) FROM versions v JOIN saved s ON s.node = v.node AND s.run = v.run WHERE v.run = ? AND v.content = 2`, run)
	if err != nil {
		return "", err
	}
	if rows[0] != saved {
		said("it has %d saved ranges, the manifest %d", rows[0], saved)
	}
	now, err := s.manifestHead(run)
	if err != nil {
		return "", err
	}
	if now.State != h.State || now.How != h.How || now.Date != h.Date || now.Reason != h.Reason || !bytes.Equal(now.Mark, h.Mark) || !bytes.Equal(now.Base, h.Base) {
		said("the run itself")
	}
	return differ, nil
}

// hasVersion tells whether the catalog has a version just so.
func (s *Store) hasVersion(run int64, v manifestVersion) (same bool, err error) {
	err = s.query(`SELECT mode, uid, gid, rdev, size, mtime_s, mtime_n, nlink, content, xattrs FROM versions WHERE node = ? AND run = ?`, func(row *sqlite.Stmt) error {
		a := v.attr
		same = uint32(row.ColumnInt64(0)) == a.Mode && uint32(row.ColumnInt64(1)) == a.UID && uint32(row.ColumnInt64(2)) == a.GID && uint64(row.ColumnInt64(3)) == a.Rdev &&
			row.ColumnInt64(4) == a.Size && row.ColumnInt64(5) == a.MtimeSec && int32(row.ColumnInt64(6)) == a.MtimeNsec && uint32(row.ColumnInt64(7)) == a.Nlink &&
			row.ColumnInt64(8) == v.content && columnBytes(row, 9) == string(v.xattrs)
		return nil
	}, v.node, run)
	return same, err
}
