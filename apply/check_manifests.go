package apply

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"zombiezen.com/go/sqlite"
)

// CheckManifests looks whether the manifests say of the past what the catalog says, so that it can be made again of them, as must hold
// whenever no run and no prune is unfinished. Each string is one thing that is wrong; nil when all is well, or when it is known that they are
// behind and will be written. For tests and for doubts.
//
//   - Every run that has rows, and every restore point, has a manifest with just these rows, and they hang together.
//   - Of all nodes that a row speaks of, and of the directories above them, manifests say where they are now (see manifestWriter).
func (s *Store) CheckManifests(ctx context.Context) (wrong []string, err error) {
	if behind, err := s.manifestsBehind(); behind || err != nil {
		return nil, err
	}
	c := &catalogCheck{s: s}
	runs, err := s.numbers(`SELECT id FROM (` + runsWithManifests + `) ORDER BY id`)
	if err != nil {
		return nil, err
	}
	for _, run := range runs {
		differ, err := s.manifestDiffers(run)
		switch {
		case missing(err) || errors.Is(err, errManifest) || errors.Is(err, errOldManifest):
			c.fault("manifest of r%d: %v", run, err)
		case err != nil:
			return nil, err
		case differ != "":
			c.fault("manifest of r%d: the catalog differs in %s", run, differ)
		}
	}
	chain, broken, err := s.manifestChain(ctx, counter{})
	if err != nil {
		return nil, err
	}
	if broken.why != "" {
		c.fault("%s", broken.why)
	}
	err = s.atOneTime(func() error { return c.told(chain) })
	return c.wrong, err
}

// manifestsBehind tells that manifests are not up to date, and that somebody will write them.
func (s *Store) manifestsBehind() (behind bool, err error) {
	known, err := s.Meta(metaManifests)
	if err != nil || known != strconv.Itoa(manifestFormat) {
		return true, err
	}
	err = s.query(`SELECT 1 FROM pruning UNION SELECT 1 FROM meta WHERE key = '`+metaStale+`' AND value <> ''`, func(*sqlite.Stmt) error { behind = true; return nil })
	return behind, err
}

// told compares where manifests say that nodes are with where they are.
func (c *catalogCheck) told(chain []*manifestHead) (err error) {
	r := &rebuilder{s: c.s}
	if err := r.beginPlaces(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.endPlaces()) }()
	byPlaces(chain)
	for _, h := range chain {
		if err := r.readPlaces(h); err != nil {
			return err
		}
	}
	if err := r.dropStaleNames(); err != nil {
		return err
	}
	// A directory that is gone and has no rows does no harm where manifests tell of it: a rebuilt catalog takes another one that has its name
	// now for it, if that has no rows either.
	const spoken = `WITH spoken(id) AS (SELECT dir FROM entries UNION SELECT node FROM entries WHERE node IS NOT NULL UNION SELECT node FROM versions) `
	for _, q := range []struct{ what, sql string }{
		{"no manifest says where it is", spoken + `SELECT id FROM nodes JOIN spoken USING(id) WHERE alive AND id <> 1 AND NOT EXISTS (SELECT 1 FROM at WHERE at.id = nodes.id)`},
		{"manifests say that it was born at another time", `SELECT id FROM at JOIN nodes USING(id) WHERE at.born <> nodes.born AND id <> 1`},
		{"manifests tell another place of the directory", `SELECT id FROM at JOIN nodes n USING(id) WHERE n.type = 16384 AND n.alive AND id <> 1 AND
			NOT EXISTS (SELECT 1 FROM at_names a WHERE a.node = id AND a.dir = n.parent AND a.name = n.name)`},
		{"manifests tell a place of a directory that is gone", spoken + `SELECT id FROM spoken JOIN at USING(id) WHERE at.type = 16384 AND EXISTS (SELECT 1 FROM at_names WHERE node = id) AND
			NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = spoken.id AND n.alive)`},
		{"it has a name that manifests do not tell", `SELECT id FROM at WHERE type <> 16384 AND EXISTS (SELECT dir, name FROM names WHERE node = id EXCEPT SELECT dir, name FROM at_names WHERE node = id)`},
		{"manifests tell a name that it has not", `SELECT id FROM at WHERE type <> 16384 AND EXISTS (SELECT dir, name FROM at_names WHERE node = id EXCEPT SELECT dir, name FROM names WHERE node = id)`},
	} {
		err := c.s.query(q.sql+` LIMIT 10`, func(row *sqlite.Stmt) error {
			c.fault("node %d: %s", row.ColumnInt64(0), q.what)
			return nil
		})
		if err != nil {
			return fmt.Errorf("comparing manifests with the catalog: %w", err)
		}
	}
	return nil
}
