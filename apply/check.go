package apply

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
)

// CheckCatalog looks whether catalog, mirror and history fit together, as they must whenever no run is unfinished. Each
// string is one thing that is wrong; nil when all is well. It reads the whole mirror: for tests and for doubts.
//
//   - Every directory of the mirror has a live node at its place, and every live directory node a directory.
//   - Every name in names is in the mirror, all names of one node are one inode, and that inode has no other names but in
//     history.
//   - Every object that a row needs is in history, and nothing else is.
//   - The number of names of files is right.
//   - Nothing is left in stage, in plans, in copied, in moves, in times, in patches and in trim.
func (s *Store) CheckCatalog() (wrong []string, err error) {
	c := newCatalogCheck(context.Background(), s)
	for _, step := range []func() error{c.leftOvers, c.history, c.saved, c.directories, c.fileNames, c.names} {
		if err := step(); err != nil {
			return c.wrong, err
		}
	}
	return c.wrong, nil
}

type catalogCheck struct {
	ctx   context.Context
	s     *Store
	tell  func(Progress)
	wrong []string
	dirs  map[int64]string // live directories by node
	files int64            // names of files in the mirror
	short bool             // there are fewer of them than there should be
}

func newCatalogCheck(ctx context.Context, s *Store) *catalogCheck {
	return &catalogCheck{ctx: ctx, s: s, dirs: map[int64]string{}}
}

func (c *catalogCheck) fault(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// meter begins to tell how far something is; sql counts of how many.
func (c *catalogCheck) meter(doing, sql string) (*meter, error) {
	m := &meter{tell: c.tell, doing: doing}
	if c.tell == nil {
		return m, nil
	}
	of, err := c.s.numbers(sql)
	if err == nil {
		m.ofNames.Store(of[0])
	}
	return m, err
}

func (c *catalogCheck) leftOvers() error {
	for _, table := range []string{"plans", "copied", "moves", "times", "patches", "trim"} {
		err := c.s.query(`SELECT count(*) FROM `+table, func(row *sqlite.Stmt) error {
			if n := row.ColumnInt64(0); n > 0 {
				c.fault("%d rows are left in %s", n, table)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return c.s.stage.ReadDir("", func(name string, _ uint8, _ uint64) error {
		c.fault("%s is left in stage", name)
		return nil
	})
}

// history compares the objects in history with the versions that need them.
func (c *catalogCheck) history() error {
	needed := map[string]bool{}
	err := c.s.query(`SELECT run, node FROM versions WHERE content = 1`, func(row *sqlite.Stmt) error {
		needed[fmt.Sprintf("r%d/%d", row.ColumnInt64(0), row.ColumnInt64(1))] = true
		return nil
	})
	if err != nil {
		return err
	}
	err = c.s.query(`SELECT DISTINCT object, node FROM saved`, func(row *sqlite.Stmt) error {
		needed[savedName(row.ColumnInt64(0), row.ColumnInt64(1))] = true
		return nil
	})
	if err != nil {
		return err
	}
	var runs []string
	err = c.s.history_.ReadDir("", func(name string, _ uint8, _ uint64) error {
		if !strings.HasPrefix(name, rewrittenPrefix) {
			runs = append(runs, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, run := range runs {
		err := c.s.history_.ReadDir(run, func(name string, _ uint8, _ uint64) error {
			if _, err := strconv.ParseInt(strings.TrimSuffix(name, savedSuffix), 10, 64); err != nil {
				if name != "manifest" && !strings.HasPrefix(name, "foreign-") {
					c.fault("history/%s/%s is not ours", run, name)
				}
				return nil
			}
			if !needed[run+"/"+name] {
				c.fault("history/%s/%s is needed by no version", run, name)
			}
			delete(needed, run+"/"+name)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for name := range needed {
		c.fault("history/%s is missing", name)
	}
	return nil
}

// saved looks whether saved ranges belong to a version that has such, lie apart, and are all that is needed of a file that is
// gone.
func (c *catalogCheck) saved() error {
	count := func(what, sql string) error {
		return c.s.query(`SELECT node, run FROM `+sql+` LIMIT 10`, func(row *sqlite.Stmt) error {
			c.fault("node %d, r%d: %s", row.ColumnInt64(0), row.ColumnInt64(1), what)
			return nil
		})
	}
	for what, sql := range map[string]string{
		"saved ranges that no version has":  `saved s WHERE NOT EXISTS (SELECT 1 FROM versions v WHERE v.node = s.node AND v.run = s.run AND v.content = 2)`,
		"saved ranges that overlap":         `saved s WHERE EXISTS (SELECT 1 FROM saved t WHERE t.node = s.node AND t.run = s.run AND t.off > s.off AND t.off < s.off + s.len)`,
		"saved ranges behind the end":       `saved s WHERE off + len > (SELECT size FROM versions v WHERE v.node = s.node AND v.run = s.run)`,
		"a part of an object is used twice": `saved s WHERE EXISTS (SELECT 1 FROM saved t WHERE t.node = s.node AND t.object = s.object AND t.run <> s.run AND t.off < s.off + s.len AND t.off + t.len > s.off)`,
		"not all of its contents is there": `versions v WHERE content = 2 AND NOT EXISTS (SELECT 1 FROM nodes WHERE id = v.node AND alive) AND
			NOT EXISTS (SELECT 1 FROM versions w WHERE w.node = v.node AND w.run > v.run AND content <> 0) AND
			v.size > (SELECT ifnull(sum(len), 0) FROM saved s WHERE s.node = v.node AND s.run = v.run)`,
	} {
		if err := count(what, sql); err != nil {
			return err
		}
	}
	return nil
}

// directories goes down the mirror and the nodes together.
func (c *catalogCheck) directories() error {
	m, err := c.meter("reading directories", `SELECT count(*) FROM nodes WHERE alive AND type = 16384`)
	if err != nil {
		return err
	}
	queue := []int64{rootNode}
	c.dirs[rootNode] = ""
	for len(queue) > 0 {
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		m.add(1, 0)
		node := queue[0]
		queue = queue[1:]
		nodes := map[string]int64{}
		err := c.s.query(`SELECT id, name FROM nodes WHERE parent = ? AND alive AND type = 16384`, func(row *sqlite.Stmt) error {
			nodes[columnBytes(row, 1)] = row.ColumnInt64(0)
			return nil
		}, node)
		if err != nil {
			return err
		}
		path := c.dirs[node]
		err = c.s.tree.ReadDir(path, func(name string, dtype uint8, _ uint64) error {
			id, ok := nodes[name]
			switch {
			case dtype != unix.DT_DIR:
				c.files++
				return nil
			case !ok:
				c.fault("directory %q has no node", join(path, name))
				return nil
			}
			delete(nodes, name)
			c.dirs[id] = join(path, name)
			queue = append(queue, id)
			return nil
		})
		if err != nil {
			return err
		}
		for name, id := range nodes {
			c.fault("node %d says that there is a directory %q", id, join(path, name))
		}
	}
	return c.s.query(`SELECT id FROM nodes WHERE alive AND type = 16384`, func(row *sqlite.Stmt) error {
		if _, ok := c.dirs[row.ColumnInt64(0)]; !ok {
			c.fault("the directory of live node %d hangs nowhere", row.ColumnInt64(0))
		}
		return nil
	})
}

func (c *catalogCheck) fileNames() error {
	text, err := c.s.Meta(metaFiles)
	if err == nil && text != "" && text != fmt.Sprint(c.files) {
		c.fault("the catalog counts %s names of files, the mirror has %d", text, c.files)
		count, bad := strconv.ParseInt(text, 10, 64)
		c.short = bad == nil && c.files < count
	}
	return err
}

// mirror looks at the names in the mirror alone.
func (c *catalogCheck) mirror() error {
	for _, step := range []func() error{c.directories, c.fileNames, c.names, c.missing} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// checkedFile is what names remembers of an inode that has more names than one.
type checkedFile struct {
	ino, links uint64
	path       string
	names      uint64 // that the catalog knows
}

// names compares the names of files that have a node with the mirror. It remembers none of those with one name: there may be millions.
func (c *catalogCheck) names() error {
	m, err := c.meter("comparing names", `SELECT count(*) FROM names`)
	if err != nil {
		return err
	}
	files := map[int64]*checkedFile{}
	err = c.s.query(`SELECT m.dir, m.name, m.node, n.alive, (SELECT count(*) FROM names o WHERE o.node = m.node) FROM names m LEFT JOIN nodes n ON n.id = m.node`, func(row *sqlite.Stmt) error {
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		m.add(1, 0)
		dir, ok := c.dirs[row.ColumnInt64(0)]
		path, node := join(dir, columnBytes(row, 1)), row.ColumnInt64(2)
		if !ok || !row.ColumnBool(3) {
			c.fault("name %q of node %d: directory or node is not alive", path, node)
			return nil
		}
		st, err := c.s.tree.Lstat(path)
		if missing(err) {
			c.fault("name %q of node %d is not in the mirror", path, node)
			return nil
		}
		if err != nil || st.Nlink == 1 && row.ColumnInt64(4) == 1 {
			return err
		}
		f := files[node]
		if f == nil {
			f = &checkedFile{ino: st.Ino, links: uint64(st.Nlink), path: path}
			files[node] = f
		}
		f.names++
		if f.ino != st.Ino {
			c.fault("names %q and %q of node %d are two inodes", f.path, path, node)
		}
		return nil
	})
	if err != nil {
		return err
	}
	maps.DeleteFunc(files, func(_ int64, f *checkedFile) bool { return f.links == f.names })
	return c.linkedFromHistory(files)
}

// linkedFromHistory looks whether the names that inodes have too many are in history.
func (c *catalogCheck) linkedFromHistory(files map[int64]*checkedFile) error {
	if len(files) == 0 {
		return nil
	}
	found := map[uint64]uint64{}
	for _, f := range files {
		found[f.ino] = 0
	}
	err := c.s.history_.ReadDir("", func(run string, dtype uint8, _ uint64) error {
		if dtype != unix.DT_DIR && dtype != unix.DT_UNKNOWN || strings.HasPrefix(run, rewrittenPrefix) {
			return nil
		}
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		return c.s.history_.ReadDir(run, func(_ string, _ uint8, ino uint64) error {
			if n, ok := found[ino]; ok {
				found[ino] = n + 1
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for node, f := range files {
		if f.links != f.names+found[f.ino] {
			c.fault("node %d (%q) has %d names, its inode %d", node, f.path, f.names, f.links)
		}
	}
	return nil
}
