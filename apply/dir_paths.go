package apply

import (
	"io/fs"

	"zombiezen.com/go/sqlite"
)

// dirPaths tells where live directories are in the mirror, by the catalog. It remembers: to ask for each of a chain of directories from its
// beginning would take the square of its depth.
type dirPaths struct {
	s     *Store
	known map[int64]string
	bytes int
}

const mostPathBytes = 64 << 20 // remembered

// of gives the path of a live directory, an fs.ErrNotExist for any other node.
func (d *dirPaths) of(node int64) (string, error) {
	if d.known == nil || d.bytes > mostPathBytes {
		d.known, d.bytes = map[int64]string{rootNode: ""}, 0
	}
	var way []int64 // up to one that is known
	var names []string
	for at := node; ; {
		if path, ok := d.known[at]; ok {
			for i := len(way) - 1; i >= 0; i-- {
				path = join(path, names[i])
				d.known[way[i]], d.bytes = path, d.bytes+len(path)
			}
			return path, nil
		}
		parent := int64(0)
		err := d.s.query(`SELECT parent, name FROM nodes WHERE id = ? AND alive`, func(row *sqlite.Stmt) error {
			parent = row.ColumnInt64(0)
			names = append(names, columnBytes(row, 1))
			return nil
		}, at)
		if err == nil && parent == 0 {
			err = fs.ErrNotExist
		}
		if err != nil {
			return "", err
		}
		way, at = append(way, at), parent
	}
}
