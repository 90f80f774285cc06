package apply

import (
	"bytes"
	"encoding/gob"
	"fmt"

	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
)

const planFormat = 1

// plan is a change set as the catalog keeps it until its run is done. What is recorded is never computed again.
type plan struct {
	Format   int
	Unlinked []diff.Name  // ascending by base path
	Linked   []diff.Name  // ascending by new path
	Inodes   []diff.Inode // ascending by first new path
	Gone     []diff.Gone
	Full     bool
	Settled  []uint64 // numbers of pending inodes that went from the source before the mirror ever had them

	fromMirror map[diff.Key]bool // what the recorder reads from the mirror, which differs from the base there
}

func newPlan(c *diff.ChangeSet) *plan {
	p := &plan{Format: planFormat, Full: c.Full != ""}
	c.Unlinked.Ascend(func(n diff.Name) bool { p.Unlinked = append(p.Unlinked, n); return true })
	c.Linked.Ascend(func(n diff.Name) bool { p.Linked = append(p.Linked, n); return true })
	c.Inodes.Ascend(func(i diff.Inode) bool { p.Inodes = append(p.Inodes, i); return true })
	c.Gone.Ascend(func(g diff.Gone) bool { p.Gone = append(p.Gone, g); return true })
	return p
}

func (p *plan) counts() Counts {
	c := Counts{Added: int64(len(p.Linked)), Removed: int64(len(p.Unlinked))}
	for _, i := range p.Inodes {
		switch {
		case i.What&diff.New != 0:
			c.Bytes += i.Attr.Size
		case i.What&diff.Data != 0:
			c.Modified++
			c.Bytes += i.Attr.Size
		case i.What&(diff.Meta|diff.Xattrs) != 0:
			c.Meta++
		}
	}
	return c
}

// encode writes a plan for the table plans.
func (p *plan) encode() ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(p)
	return b.Bytes(), err
}

// decodePlan reads what encode wrote.
func decodePlan(data []byte) (*plan, error) {
	p := new(plan)
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(p); err != nil {
		return nil, fmt.Errorf("reading the recorded plan: %w", err)
	}
	if p.Format != planFormat {
		return nil, fmt.Errorf("the recorded plan has format %d: %w", p.Format, ErrFormat)
	}
	return p, nil
}

func (s *Store) loadPlan(run int64) (p *plan, err error) {
	var data []byte
	err = s.query(`SELECT data FROM plans WHERE run = ?`, func(row *sqlite.Stmt) error { data = []byte(columnBytes(row, 0)); return nil }, run)
	if err != nil {
		return nil, catalogError("read the plan", err)
	}
	return decodePlan(data)
}
