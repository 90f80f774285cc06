package job

import (
	"context"
	"errors"
	"fmt"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/output"
)

// Illness is one thing that Doctor has to say.
type Illness struct {
	Job   string `json:"job"`
	Level Level  `json:"level"` // Missing ("error"), Warning or Note
	Text  string `json:"text"`
	// Repair is what a repair does about it, or has done; "" where it can do nothing.
	Repair string `json:"repair,omitempty"`
	// Repaired: it has.
	Repaired bool `json:"repaired"`
	// Lost are the paths that are concerned, and the restore points in which they are.
	Lost []LostPath `json:"lost,omitempty"`
}

// LostPath is a path whose contents at some restore points are missing or rotten.
type LostPath struct {
	output.Path
	Name   string `json:"-"` // as it is
	Points string `json:"restore_points"`
	Object string `json:"object"` // in the store
}

func lostPaths(list []apply.Affected) (out []LostPath) {
	for _, a := range list {
		out = append(out, LostPath{output.NewPath(shown(a.Path)), shown(a.Path), apply.PointsText(a.Points), a.Object})
	}
	return out
}

// Unsound says that something is wrong with a store and was not repaired.
type Unsound struct{ Found, CanRepair int }

// Error counts.
func (e *Unsound) Error() string {
	return fmt.Sprintf("%s things are wrong with the store", output.Count(int64(e.Found)))
}

// Hint is what to do next.
func (e *Unsound) Hint() string {
	if e.CanRepair == 0 {
		return "no repair brings it back; see the lines above"
	}
	return "snapdiff doctor --repair does what the lines above say"
}

// Doctor examines the store of a job, and mends it if repair is set. The source is not needed. The error is an *Unsound or, where
// the catalog is what is wrong, an *apply.DamagedCatalog.
func Doctor(ctx context.Context, j config.Job, repair bool, say func(format string, args ...any), news func(apply.Progress)) (found []Illness, err error) {
	if err := checkRoot(); err != nil {
		return nil, err
	}
	if repair {
		if err := checkWritable(j.Store); err != nil {
			return nil, err
		}
	}
	troubles, err := apply.Examine(ctx, j.Store, apply.DoctorOptions{Catalog: j.Catalog, Repair: repair, Say: say, Progress: news})
	if repair {
		err = explainFailure(err, j)
	}
	left := &Unsound{}
	var catalog error
	for _, t := range troubles {
		i := Illness{Job: j.Name, Level: Missing, Text: t.Text, Repair: t.Mend, Repaired: t.Mended, Lost: lostPaths(t.Lost)}
		switch {
		case t.Note:
			i.Level = Note
		case t.Mended:
			i.Level = Warning
		default:
			left.Found++
			if t.Mend != "" {
				left.CanRepair++
			}
			if t.Catalog {
				catalog = &apply.DamagedCatalog{Err: errors.New("see above")}
			}
		}
		found = append(found, i)
	}
	told := func(err error) error {
		var missing *apply.MissingDir
		if left.Found > 0 && errors.As(err, &missing) {
			return nil // a store that lacks it cannot be opened
		}
		return err
	}
	if err = told(err); err == nil && catalog == nil {
		note, nerr := heldNote(j)
		if note != nil {
			found = append(found, *note)
		}
		err = told(nerr)
	}
	switch {
	case err != nil:
		return found, err
	case catalog != nil:
		return found, catalog
	case left.Found > 0:
		return found, left
	}
	return found, nil
}

// heldNote tells of a run that waits for approval.
func heldNote(j config.Job) (*Illness, error) {
	store, err := apply.OpenReadOnly(j.Store, apply.CatalogAt(j.Catalog))
	if err != nil {
		return nil, err
	}
	defer store.Close()
	held, err := HeldRun(store)
	if err != nil || held == nil {
		return nil, err
	}
	return &Illness{Job: j.Name, Level: Note, Text: fmt.Sprintf("r%d is held; its snapshot is kept: snapdiff run %s --approve r%d --dry-run shows what it would do", held.ID, j.Name, held.ID)}, nil
}
