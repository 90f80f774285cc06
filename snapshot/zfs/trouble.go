package zfs

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Trouble is something that keeps a snapshot from being taken; Maybe: in a container only, since root is above limits.
type Trouble struct {
	What, Next string
	Maybe      bool
}

// Troubles looks for what keeps snapshots of the dataset from being taken: a pool that is read-only, a limit that is reached. (Of a
// suspended pool Lookup gives no dataset.)
func (d Dataset) Troubles(ctx context.Context) (found []Trouble, err error) {
	pool, _, _ := strings.Cut(d.Name, "/")
	lines, err := program(ctx, "zpool", "get", "-H", "-o", "value", "readonly", pool)
	if err != nil {
		return nil, err
	}
	if len(lines) > 0 && lines[0][0] == "on" {
		found = append(found, Trouble{What: "the pool " + pool + " is imported read-only: no snapshot can be taken",
			Next: fmt.Sprintf("zpool export %s && zpool import %s", pool, pool)})
	}
	return d.limits(ctx, found)
}

// limits looks at snapshot_limit of the dataset and all above it, which count its snapshots too.
func (d Dataset) limits(ctx context.Context, found []Trouble) ([]Trouble, error) {
	args := []string{"get", "-H", "-p", "-o", "name,property,value", "snapshot_limit,snapshot_count"}
	for name := d.Name; name != "."; {
		args = append(args, name)
		cut := strings.LastIndexByte(name, '/')
		if cut < 0 {
			break
		}
		name = name[:cut]
	}
	lines, err := run(ctx, args...)
	limits, counts := map[string]uint64{}, map[string]uint64{}
	for _, f := range lines {
		n, err := strconv.ParseUint(f[len(f)-1], 10, 64)
		switch {
		case err != nil || len(f) != 3: // none
		case f[1] == "snapshot_limit":
			limits[f[0]] = n
		default:
			counts[f[0]] = n
		}
	}
	for name, most := range limits {
		if n := counts[name]; n >= most {
			found = append(found, Trouble{fmt.Sprintf("%s has %d snapshots, its limit is %d: in a container no other can be taken", name, n, most),
				"destroy old ones, or zfs set snapshot_limit=none " + name, true})
		}
	}
	return found, err
}
