package apply

import (
	"errors"
	"strconv"
)

// settings takes over the settings of the newest manifest.
func (r *rebuilder) settings(heads []*manifestHead) error {
	var newest *manifestHead
	for _, h := range heads {
		if newest == nil || h.Run > newest.Run {
			newest = h
		}
	}
	if newest != nil {
		for key, value := range newest.Meta {
			if notKept[key] {
				continue
			}
			if err := r.s.SetMeta(key, value); err != nil {
				return err
			}
		}
	}
	if r.place.id != "" {
		if err := r.s.SetMeta(metaStoreID, r.place.id); err != nil {
			return err
		}
	}
	if err := r.s.SetMeta(metaManifests, strconv.Itoa(manifestFormat)); err != nil {
		return err
	}
	if r.rewritten = highestIn(r.s.path, rewrittenPrefix); r.done.Cut != 0 {
		r.rewritten++
	}
	if r.rewritten > 0 {
		if err := r.s.SetMeta(metaRewritten, strconv.FormatInt(r.rewritten, 10)); err != nil {
			return err
		}
	}
	if newest := newestHistory(r.s.path); newest > 0 {
		if err := r.s.SetMeta(metaUntold, strconv.FormatInt(newest, 10)); err != nil {
			return err
		}
	}
	return r.s.setNeedsFull("the catalog was rebuilt from the manifests")
}

// sequences makes sure that no number of a run or node is given out again.
func (r *rebuilder) sequences(heads []*manifestHead) error {
	runs, _, err := r.s.manifestRuns()
	if err != nil {
		return err
	}
	last := int64(0)
	for _, h := range heads {
		last, r.lastID = max(last, h.LastRun, h.Run), max(r.lastID, h.LastNode)
	}
	for _, run := range runs {
		last = max(last, run)
	}
	return errors.Join(r.raiseSequence("runs", last), r.raiseSequence("nodes", r.lastID))
}

// raiseSequence has the next row of a table get a higher number than last.
func (r *rebuilder) raiseSequence(table string, last int64) error {
	err := r.s.exec(`UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1`, table, last)
	if err == nil && r.s.conn.Changes() == 0 {
		err = r.s.exec(`INSERT INTO sqlite_sequence(name, seq) VALUES (?, ?)`, table, last)
	}
	return err
}
