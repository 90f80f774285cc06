package zfs

import (
	"context"
	"fmt"
	"slices"
	"strconv"
)

// Used is how many bytes would be free without each snapshot of the dataset, and with deep of those below it, by full name.
func Used(ctx context.Context, d Dataset, deep bool) (map[string]int64, error) {
	depth := []string{"-d", "1"}
	if deep {
		depth = []string{"-r"}
	}
	lines, err := run(ctx, slices.Concat([]string{"list", "-H", "-p", "-t", "snapshot", "-o", "name,used"}, depth, []string{d.Name})...)
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
