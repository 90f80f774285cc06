package zfs

import (
	"context"
	"fmt"
	"strconv"
)

// Used is how many bytes would be free without each snapshot of the dataset, by full name.
func Used(ctx context.Context, d Dataset) (map[string]int64, error) {
	lines, err := run(ctx, "list", "-H", "-p", "-t", "snapshot", "-d", "1", "-o", "name,used", d.Name)
	if err != nil {
		return nil, fmt.Errorf("sizes of the snapshots of %s: %w", d.Name, err)
	}
	used := make(map[string]int64, len(lines))
	for _, f := range lines {
		if len(f) != 2 {
			return nil, fmt.Errorf("sizes of the snapshots of %s: a line of %d fields: %q", d.Name, len(f), f)
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("sizes of the snapshots of %s: %w", d.Name, err)
		}
		used[f[0]] = n
	}
	return used, nil
}
