package apply

import (
	"cmp"
	"errors"
	"slices"
)

// byPlaces puts the newest state of places last.
func byPlaces(heads []*manifestHead) {
	slices.SortStableFunc(heads, func(a, b *manifestHead) int { return cmp.Compare(a.Places, b.Places) })
}

// beginPlaces makes the temporary tables of where manifests say that nodes are.
func (r *rebuilder) beginPlaces() error {
	return errors.Join(
		r.s.exec(`CREATE TEMP TABLE at(id INTEGER PRIMARY KEY, run INTEGER NOT NULL, type INTEGER NOT NULL, born INTEGER NOT NULL, alive INTEGER NOT NULL)`),
		r.s.exec(`CREATE TEMP TABLE at_names(node INTEGER, dir INTEGER, name BLOB, run INTEGER, PRIMARY KEY(node, dir, name)) WITHOUT ROWID`),
		r.s.exec(`CREATE INDEX temp.at_names_name ON at_names(dir, name)`))
}

func (r *rebuilder) endPlaces() error {
	return errors.Join(r.s.exec(`DROP TABLE temp.at`), r.s.exec(`DROP TABLE temp.at_names`))
}

// dropStaleNames drops names that mean something else since: those that a later run speaks of, and those of directories that another one was
// told to have later. For a directory that came and went between two restore points leaves no rows that would say so, and what an earlier
// manifest told of it when it was written anew nobody takes back.
func (r *rebuilder) dropStaleNames() error {
	return errors.Join(
		r.s.exec(`DELETE FROM at_names WHERE EXISTS (SELECT 1 FROM entries e WHERE e.dir = at_names.dir AND e.name = at_names.name AND e.run > at_names.run)`),
		r.s.exec(`DELETE FROM at_names WHERE EXISTS (SELECT 1 FROM at WHERE id = at_names.node AND type = 16384) AND EXISTS (SELECT 1 FROM at_names n JOIN at ON at.id = n.node
			WHERE n.dir = at_names.dir AND n.name = at_names.name AND n.run > at_names.run AND at.type = 16384)`))
}

// at notes where a node was after a run. Manifests come in the order of that.
func (r *rebuilder) at(run int64, p nodePlace, places []manifestPlace) error {
	r.lastID = max(r.lastID, p.id)
	err := r.s.exec(`INSERT OR REPLACE INTO at(id, run, type, born, alive) VALUES (?, ?, ?, ?, ?)`, p.id, run, p.kind, p.born, p.alive)
	if err == nil {
		err = r.s.exec(`DELETE FROM at_names WHERE node = ?`, p.id)
	}
	for _, at := range places {
		if err == nil {
			err = r.s.exec(`INSERT OR REPLACE INTO at_names(node, dir, name, run) VALUES (?, ?, ?, ?)`, p.id, at.dir, []byte(at.name), run)
		}
		r.lastID = max(r.lastID, at.dir)
	}
	return err
}

// readPlaces reads what one manifest says of places. Those with an earlier state of them come before it.
func (r *rebuilder) readPlaces(h *manifestHead) error {
	_, err := r.s.readManifest(h.Run, manifestVisitor{place: func(p nodePlace, places []manifestPlace) error { return r.at(h.Places, p, places) }})
	return err
}
