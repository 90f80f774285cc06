package apply

import (
	"encoding/json"
	"fmt"

	"zombiezen.com/go/sqlite"
)

// manifestHead is the JSON of a manifest's second line.
type manifestHead struct {
	Run   int64  `json:"run"`
	State string `json:"state"`
	// Prev is the run whose manifest comes before this one, 0 for the first: a gap shows.
	Prev int64 `json:"prev"`
	// Places is the run after which the nodes were where the manifest says.
	Places int64 `json:"places"`
	// Detached: it has been in that state in the catalog (see begunStates).
	Detached bool `json:"detached,omitempty"`
	// LastRun and LastNode are numbers up to which there may have been runs and nodes.
	LastRun  int64 `json:"last_run"`
	LastNode int64 `json:"last_node"`
	// What the table runs has, as it has it.
	How        string          `json:"how,omitempty"`
	Reason     string          `json:"reason,omitempty"`
	Date       int64           `json:"date,omitempty"`
	Started    int64           `json:"started,omitempty"`
	Finished   int64           `json:"finished,omitempty"`
	Mark       json.RawMessage `json:"mark,omitempty"`
	Base       json.RawMessage `json:"base,omitempty"`
	Counts     json.RawMessage `json:"counts,omitempty"`
	Incomplete int64           `json:"incomplete,omitempty"`
	Warnings   json.RawMessage `json:"warnings,omitempty"`
	// Meta are settings of the store.
	Meta map[string]string `json:"meta,omitempty"`
}

// notKept are the settings that a rebuilt catalog finds out or must not have.
var notKept = map[string]bool{metaFiles: true, metaLinks: true, metaAltered: true, metaMendable: true, metaManifests: true, metaStale: true, metaSumsOf: true, metaRewritten: true, metaUntold: true, "held": true}

// manifestHead says of a run what stands in the head of its manifest.
func (s *Store) manifestHead(run int64) (*manifestHead, error) {
	h := &manifestHead{Run: run, State: stateDropped, Meta: map[string]string{}}
	raw := func(row *sqlite.Stmt, col int) json.RawMessage {
		if text := row.ColumnText(col); text != "" {
			return json.RawMessage(text)
		}
		return nil
	}
	err := s.query(`SELECT state, how, reason, date, started, finished, mark, base, counts, incomplete, warnings FROM runs WHERE id = ?`, func(row *sqlite.Stmt) error {
		h.State, h.How, h.Reason, h.Date = row.ColumnText(0), row.ColumnText(1), row.ColumnText(2), row.ColumnInt64(3)
		h.Started, h.Finished, h.Mark, h.Base = row.ColumnInt64(4), row.ColumnInt64(5), raw(row, 6), raw(row, 7)
		h.Counts, h.Incomplete, h.Warnings = raw(row, 8), row.ColumnInt64(9), raw(row, 10)
		return nil
	}, run)
	if err != nil {
		return nil, err
	}
	err = s.query(`SELECT key, value FROM meta`, func(row *sqlite.Stmt) error {
		if key := row.ColumnText(0); !notKept[key] {
			h.Meta[key] = row.ColumnText(1)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, q := range []struct {
		to  *int64
		sql string
	}{
		{&h.Prev, `SELECT ` + manifestBefore},
		{&h.Places, `SELECT ifnull(max(id), 0) + 0 * ?1 FROM runs WHERE state IN ('done', 'abandoned')`},
		{&h.LastRun, `SELECT max(ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'runs'), 0), ?1)`},
		{&h.LastNode, `SELECT ifnull((SELECT max(seq) FROM sqlite_sequence WHERE name = 'nodes'), 0) + 0 * ?1`},
	} {
		if err := s.query(q.sql, func(row *sqlite.Stmt) error { *q.to = row.ColumnInt64(0); return nil }, run); err != nil {
			return nil, err
		}
	}
	h.Detached, err = exists(s.history_, fmt.Sprintf("r%d/%s", run, begunName(Detached)))
	return h, err
}

// runsWithManifests gives the numbers that have a manifest, but for an unfinished run's.
const runsWithManifests = `SELECT id FROM runs WHERE state IN ('done', 'abandoned')
	UNION SELECT DISTINCT run FROM entries UNION SELECT DISTINCT run FROM versions`

// manifestBefore is the last of them before ?1, 0 if there is none.
const manifestBefore = `max(ifnull((SELECT max(id) FROM runs WHERE id < ?1 AND state IN ('done', 'abandoned')), 0),
	ifnull((SELECT max(run) FROM entries WHERE run < ?1), 0), ifnull((SELECT max(run) FROM versions WHERE run < ?1), 0))`
