package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
)

// cutOff tells whether a run is unfinished: then much looks wrong that is not.
func (d *doctor) cutOff() (bool, error) {
	_, cut, err := d.s.Last()
	return cut != nil, err
}

// history compares the objects in history with the rows that need them.
func (d *doctor) history() error {
	d.o.Say("looking at history")
	cut, err := d.cutOff()
	if err != nil {
		return err
	}
	runs, _, err := d.s.manifestRuns()
	if err != nil {
		return err
	}
	more, err := d.s.numbers(`SELECT DISTINCT run FROM versions WHERE content <> 0`)
	if err != nil {
		return err
	}
	runs = slices.Compact(slices.Sorted(slices.Values(append(runs, more...))))
	_, open, err := d.s.Last()
	if err != nil {
		return err
	}
	var lost []object
	extra := map[int64][]string{}
	news := d.o.tell("looking at the history of runs")
	for i, run := range runs {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		news.at(i, len(runs))
		if cut && run == open.ID {
			continue
		}
		gone, over, err := d.s.missingAndExtra(run)
		if err != nil {
			return err
		}
		lost = append(lost, gone...)
		if len(over) > 0 {
			extra[run] = over
		}
	}
	if !cut {
		saved, err := d.s.missingSaved()
		if err != nil {
			return err
		}
		lost = append(lost, saved...)
	}
	if len(lost) > 0 {
		t := Trouble{Text: fmt.Sprintf("%d objects of history are missing: what they held is lost", len(lost))}
		if t.Lost, err = d.s.affected(lost, d.o.Catalog); err != nil {
			return err
		}
		d.say(t)
	}
	return d.extra(extra)
}

// extra tells of objects that nothing needs.
func (d *doctor) extra(runs map[int64][]string) error {
	pruning := false
	err := d.s.query(`SELECT 1 FROM trash UNION SELECT 1 FROM trim UNION SELECT 1 FROM pruning`, func(*sqlite.Stmt) error { pruning = true; return nil })
	if err != nil {
		return err
	}
	if pruning {
		d.say(Trouble{Text: "dropping restore points was cut off; the next run or snapdiff prune ends it", Note: true})
		return nil
	}
	for run, objects := range runs {
		t := Trouble{Text: fmt.Sprintf("history/r%d has %d objects that no restore point needs (the first is %s)", run, len(objects), objects[0]),
			Mend: "renames them to foreign-N; they go with the oldest restore point"}
		err := d.mend(t, func() error {
			x := &execution{s: d.s, run: run, altered: true}
			for _, o := range objects {
				if err := x.foreign(d.s.history_, fmt.Sprintf("r%d/%s", run, o)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// stage looks for what no run will look for. What was being built the next run removes.
func (d *doctor) stage() error {
	cut, err := d.cutOff()
	if err != nil || cut {
		return err
	}
	var left []string
	err = d.s.stage.ReadDir("", func(name string, _ uint8, _ uint64) error {
		if !isBuilt(name) {
			left = append(left, name)
		}
		return nil
	})
	if err != nil || len(left) == 0 {
		return err
	}
	newest, err := d.s.numbers(`SELECT ifnull(max(id), 1) FROM runs WHERE state = 'done'`)
	if err != nil {
		return err
	}
	t := Trouble{Text: fmt.Sprintf("%d things are left in stage, and no run is unfinished (the first is %s)", len(left), left[0]),
		Mend: fmt.Sprintf("moves them to history/r%d/foreign-N; they go with the oldest restore point", newest[0])}
	return d.mend(t, func() error {
		x := &execution{s: d.s, run: newest[0], altered: true}
		if err := d.s.history_.Mkdir(x.history(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		for _, name := range left {
			if err := x.foreign(d.s.stage, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// mirror compares the names in the mirror with the catalog.
func (d *doctor) mirror() error {
	cut, err := d.cutOff()
	if err != nil || cut {
		return err
	}
	if reason, err := d.s.NeedsFull(); err != nil || reason != "" {
		return err // it is known to differ
	}
	d.o.Say("comparing the names in the mirror with the catalog")
	c := newCatalogCheck(d.ctx, d.s)
	c.tell = d.o.Progress
	if err := c.mirror(); err != nil {
		return err
	}
	if len(c.wrong) == 0 {
		return nil
	}
	t := Trouble{Text: fmt.Sprintf("the mirror was altered, %d things are not as runs left them: %s", len(c.wrong), strings.Join(c.wrong[:min(len(c.wrong), 5)], "; ")),
		Mend: "has the next run compare all of it and bring it back (snapdiff verify --repair does it at once)"}
	return d.mend(t, func() error { return d.s.setAltered("doctor found that the mirror was altered") })
}
