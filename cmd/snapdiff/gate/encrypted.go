package gate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// What it takes for a change set to look like the work of ransomware. Both signs compare a file with what it was, so that photos,
// archives and new files are no signs; both want many files. (docs/operation.md tells users.)
const (
	// fewest is how many files that were there before must have been written anew or renamed.
	fewest = 200
	// sampled is how many of these are read, two pieces of each in both states.
	sampled = 100
	// share of those looked at must show the sign.
	share = 0.2
	// piece is how many bytes are read at once.
	piece = 8192
	// looked is how many directories are listed to see whether an extension is new.
	looked = 20
)

// usual are extensions that many files get at once on any server: compressed and kept copies.
var usual = []string{"gz", "bz2", "xz", "zst", "lz4", "zip", "7z", "bak", "old", "orig"}

// Encrypted tells by which signs a change set looks like the work of ransomware, nothing when it does not: contents that could be
// compressed and cannot be any more, and one extension, new where it appears, that many files got. base and next are the two states.
func Encrypted(ctx context.Context, set *diff.ChangeSet, base, next *beneath.Root) (signs []string, err error) {
	all := pairs(set)
	if all.n < fewest {
		return nil, nil
	}
	turned, err := all.turned(ctx, base, next)
	if err != nil {
		return nil, err
	}
	if n := len(all.sample); n > 0 && float64(turned) >= share*float64(n) {
		signs = append(signs, fmt.Sprintf("the contents look encrypted: of %d changed files that were looked at %d can no longer be compressed", n, turned))
	}
	ext, n := all.extension()
	if n < fewest || float64(n) < share*float64(all.n) || slices.Contains(usual, strings.ToLower(ext)) {
		return signs, nil
	}
	known, err := inUse(ext, all.dirs[ext], base)
	if err == nil && !known {
		signs = append(signs, fmt.Sprintf("%d files were given the extension .%s, which no file had there before", n, ext))
	}
	return signs, err
}

// turned counts the files of the sample that turned. Several are read at once: most of it is waiting for the disk.
func (p *paired) turned(ctx context.Context, base, next *beneath.Root) (int, error) {
	const atOnce = 8
	var turned atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, one := range p.sample {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if one.turned(base, next) {
				turned.Add(1)
			}
			return nil
		})
	}
	err := group.Wait()
	return int(turned.Load()), err
}

// inUse tells whether a file in one of the directories has the extension in the base.
func inUse(ext string, dirs []string, base *beneath.Root) (found bool, err error) {
	for _, dir := range dirs {
		err := base.ReadDir(dir, func(name string, _ uint8, _ uint64) error {
			found = found || extension(name) == ext
			return nil
		})
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// extension is what follows the last dot of a name, "" where that looks like none: mail files have whole sentences there.
func extension(name string) string {
	i := strings.LastIndexByte(name, '.')
	ext := name[i+1:]
	if i <= 0 || len(ext) == 0 || len(ext) > 20 {
		return ""
	}
	for _, c := range []byte(ext) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return ""
		}
	}
	return ext
}
