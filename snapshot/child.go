package snapshot

import "fmt"

// MostChildren is the highest number that a child can have; see diff.ChildIno.
const MostChildren = 1<<15 - 1

// Child is the snapshot of a nested subvolume or child dataset that was taken with that of the source.
type Child struct {
	// Number tells the child from the source (0) and its other children, from one run to the next: see Mark.Number.
	Number uint64
	// Dir is its place below the top of the source in these snapshots, as a path; names are bytes.
	Dir []byte
	// Mark is that of the child's own snapshot.
	Mark Mark
}

// Number gives the children of a new snapshot their numbers: those that they had in the last one, which the mirror equals, or new ones. A
// child is known by its own identity, wherever it is and whatever its name is. A number is not given away again before all others were used,
// and never while the mirror has the child that had it.
func (m *Mark) Number(last Mark) error {
	known, used := map[string]uint64{}, map[uint64]bool{}
	for _, c := range last.Children {
		known[c.Mark.Source], used[c.Number] = c.Number, true
	}
	if len(used)+len(m.Children) > MostChildren {
		return fmt.Errorf("the source has %d children; a job can have %d at most", len(m.Children), MostChildren/2)
	}
	m.Numbered = last.Numbered
	for i := range m.Children {
		c := &m.Children[i]
		if c.Number = known[c.Mark.Source]; c.Number != 0 {
			continue
		}
		for c.Number == 0 || used[c.Number] {
			if m.Numbered++; m.Numbered > MostChildren {
				m.Numbered = 1
			}
			c.Number = m.Numbered
		}
		used[c.Number] = true
	}
	return nil
}

// All are the mark itself and those of its children.
func (m Mark) All() []Mark {
	all := []Mark{m}
	for _, c := range m.Children {
		all = append(all, c.Mark)
	}
	return all
}
