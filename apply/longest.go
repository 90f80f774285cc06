package apply

import (
	"strconv"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
)

// metaLongest is no less than the length of the longest path of a directory in the mirror, in bytes. It is kept up to date by commits, and
// counted anew when it was never known or has grown beyond what is of use.
const metaLongest = "longest"

// MovesTooDeep tells whether a change set moves a directory so far down that paths below it, of which the change set knows nothing, would
// become too deep for the mirror (diff.TooDeep). Then only a full comparison is right.
func (s *Store) MovesTooDeep(c *diff.ChangeSet) (bool, error) {
	p := &plan{}
	c.Linked.Ascend(func(n diff.Name) bool { p.Linked = append(p.Linked, n); return true })
	c.Unlinked.Ascend(func(n diff.Name) bool { p.Unlinked = append(p.Unlinked, n); return true })
	moved := movedDirs(p)
	down := farthestDown(moved)
	if down <= 0 {
		return false, nil
	}
	longest, err := s.longest()
	if err != nil {
		return false, err
	}
	if longest == 0 || longest+down > diff.LongestPath {
		if longest, err = s.longestBelow(rootNode, -1); err != nil {
			return false, err
		}
		if err := s.SetMeta(metaLongest, strconv.Itoa(longest)); err != nil {
			return false, err
		}
	}
	if longest+down <= diff.LongestPath {
		return false, nil
	}
	dirs := map[string]int64{"": rootNode}
	for from, to := range moved {
		node, err := s.dirNode(from, dirs)
		if err != nil {
			return false, err
		}
		if longest, err = s.longestBelow(node, len(to)); err != nil || longest > diff.LongestPath {
			return true, err
		}
	}
	return false, nil
}

// farthestDown is by how many bytes the paths below moved directories grow at most.
func farthestDown(moved map[string]string) (down int) {
	for from, to := range moved {
		down = max(down, len(to)-len(from))
	}
	return down
}

func (s *Store) longest() (int, error) {
	text, err := s.Meta(metaLongest)
	if err != nil || text == "" {
		return 0, err
	}
	return strconv.Atoi(text)
}

// longestBelow is the length of the longest path of a directory at or below one whose own path has so many bytes.
func (s *Store) longestBelow(node int64, length int) (longest int, err error) {
	// The condition names the type in words that the partial index has.
	err = s.query(`WITH RECURSIVE dirs(id, length) AS (SELECT ?, ? UNION ALL
		SELECT n.id, d.length + 1 + length(n.name) FROM dirs d JOIN nodes n ON n.parent = d.id AND n.alive AND n.type = 16384)
		SELECT max(length) FROM dirs`, func(row *sqlite.Stmt) error { longest = row.ColumnInt(0); return nil }, node, length)
	return longest, catalogError("find the longest path", err)
}

// commitLongest keeps metaLongest no less than the truth.
func (s *Store) commitLongest(p *plan) error {
	longest, err := s.longest()
	if err != nil || longest == 0 {
		return err
	}
	now := longest + max(farthestDown(movedDirs(p)), 0)
	for _, n := range p.Linked {
		if n.Type == unix.S_IFDIR {
			now = max(now, len(n.Path))
		}
	}
	if now == longest {
		return nil
	}
	return s.exec(`INSERT OR REPLACE INTO meta(key, value) VALUES (?, ?)`, metaLongest, strconv.Itoa(now))
}
