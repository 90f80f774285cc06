package zfs

import (
	"context"
	"fmt"
	"slices"
	"strconv"
)

// Used is how many bytes would be free without each snapshot of the dataset, and with deep of those below it, by full name.
func Used(ctx context.Context, d Dataset, deep bool) (map[string]int64, error) {
	sizes, err := sizes(ctx, d, "used", "snapshot", "1", deep)
	if err != nil {
		err = fmt.Errorf("sizes of the snapshots of %s: %w", d.Name, err)
	}
	return sizes, err
}

// Referenced is how many bytes the dataset shows, and with deep those below it, by name: without compression, as a copy may have them.
func Referenced(ctx context.Context, d Dataset, deep bool) (map[string]int64, error) {
	sizes, err := sizes(ctx, d, "logicalreferenced", "filesystem", "0", deep)
	if err != nil {
		err = fmt.Errorf("size of %s: %w", d.Name, err)
	}
	return sizes, err
}

// sizes gives a property that is a number of bytes of what zfs list shows, by name. depth is how deep it goes if not to the end.
func sizes(ctx context.Context, d Dataset, property, kind, depth string, deep bool) (map[string]int64, error) {
	down := []string{"-d", depth}
	if deep {
		down = []string{"-r"}
	}
	lines, err := run(ctx, slices.Concat([]string{"list", "-H", "-p", "-t", kind, "-o", "name," + property}, down, []string{d.Name})...)
	if err != nil {
		return nil, err
	}
	all := make(map[string]int64, len(lines))
	for _, f := range lines {
		if len(f) != 2 {
			return nil, fmt.Errorf("a line of %d fields: %q", len(f), f)
		}
		if all[f[0]], err = strconv.ParseInt(f[1], 10, 64); err != nil {
			return nil, err
		}
	}
	return all, nil
}
