package gate

import (
	"math/rand/v2"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// pair is a file as it was and as it is: the same inode, or one that took its place under its name or its name with another extension.
type pair struct {
	base, next string
	at         int64 // where contents begin to differ, as far as is known
	tiny       bool  // it is known to be too small to tell anything
}

// paired are the files that were there before and were written anew or renamed.
type paired struct {
	n      int64  // how many
	sample []pair // of those with other contents, each as likely as any other
	seen   int64  // how many the sample was taken of
	exts   map[string]int64
	dirs   map[string][]string // some directories in which files got an extension
}

// mostExtensions bounds what is counted: only one that many files got is of interest.
const mostExtensions = 10_000

func pairs(set *diff.ChangeSet) *paired {
	p := &paired{exts: map[string]int64{}, dirs: map[string][]string{}}
	set.Inodes.Ascend(func(i diff.Inode) bool {
		if i.What&diff.New != 0 || !i.Attr.IsRegular() || i.What&(diff.Data|diff.Links) == 0 {
			return true
		}
		var at int64
		if len(i.Ranges) > 0 {
			at = i.Ranges[0].Off
		}
		p.add(pair{i.BasePaths[0], i.Paths[0], at, i.Attr.Size < leastPiece}, i.What&diff.Data != 0)
		return true
	})
	set.Gone.Ascend(func(g diff.Gone) bool {
		if g.BaseAttr.IsRegular() {
			if next := successor(set, g.BasePaths[0]); next != "" {
				p.add(pair{base: g.BasePaths[0], next: next}, true)
			}
		}
		return true
	})
	return p
}

// successor finds the file that came in the place of one that went: at its path, its path with an extension more or its path with another
// extension; "" for none.
func successor(set *diff.ChangeSet, path string) (found string) {
	stem := path
	if ext := extension(path[strings.LastIndexByte(path, '/')+1:]); ext != "" {
		stem = strings.TrimSuffix(path, "."+ext)
	}
	for _, from := range []string{path, stem} {
		left := 16 // names that only begin alike
		set.Linked.AscendGreaterOrEqual(diff.Name{Path: from}, func(n diff.Name) bool {
			rest, ok := strings.CutPrefix(n.Path, from)
			left--
			if !ok || left == 0 {
				return false
			}
			if n.Type == unix.S_IFREG && (rest == "" || rest[0] == '.' && extension("x"+rest) == rest[1:]) {
				found = n.Path
			}
			return found == ""
		})
		if found != "" {
			return found
		}
	}
	return ""
}

// add counts a pair; one with other contents may be looked at.
func (p *paired) add(one pair, data bool) {
	p.n++
	if ext := gained(one.base, one.next); ext != "" {
		if _, ok := p.exts[ext]; ok || len(p.exts) < mostExtensions {
			p.exts[ext]++
			dir := one.base[:max(strings.LastIndexByte(one.base, '/'), 0)]
			if list := p.dirs[ext]; len(list) < looked && (len(list) == 0 || list[len(list)-1] != dir) {
				p.dirs[ext] = append(list, dir)
			}
		}
	}
	if !data {
		return
	}
	p.seen++
	if len(p.sample) < sampled {
		p.sample = append(p.sample, one)
	} else if i := rand.Int64N(p.seen); i < sampled {
		p.sample[i] = one
	}
}

// gained is the extension that a file has and had not, where the rest of its name is the same.
func gained(base, next string) string {
	name := next[strings.LastIndexByte(next, '/')+1:]
	was := base[strings.LastIndexByte(base, '/')+1:]
	ext := extension(name)
	if ext == "" || ext == extension(was) {
		return ""
	}
	if stem := strings.TrimSuffix(name, "."+ext); stem == was || stem == strings.TrimSuffix(was, "."+extension(was)) {
		return ext
	}
	return ""
}

// extension is the one that most files got, and how many.
func (p *paired) extension() (ext string, n int64) {
	for e, m := range p.exts {
		if m > n || m == n && e < ext {
			ext, n = e, m
		}
	}
	return ext, n
}
