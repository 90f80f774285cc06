package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// filesPerDir is the mean size of a folder, as in a mail store.
const filesPerDir = 500

// tree is the source and how it changes.
type tree struct {
	root  string
	dirs  uint32
	files []file // in no order
	made  uint32 // names ever made
	rnd   *rand.Rand
}

// file is a name, d0012/d34/ID.msg, in 8 bytes: the kernel counts our memory at the time of a fork to what the program
// that we start uses at its peak, so we must stay smaller than what we measure.
type file struct{ dir, id uint32 }

func newTree(root string, files int, seed uint64) (*tree, error) {
	t := &tree{root: root, dirs: uint32(max(files/filesPerDir, 1)), rnd: rand.New(rand.NewPCG(seed, 0))}
	for d := range t.dirs {
		if err := os.MkdirAll(filepath.Dir(t.path(file{dir: d})), 0o755); err != nil {
			return nil, err
		}
	}
	for i := range files {
		if err := t.create(uint32(i) % t.dirs); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// path of a file; 100 folders lie in each folder above.
func (t *tree) path(f file) string {
	return filepath.Join(t.root, fmt.Sprintf("d%04d/d%02d/%d.msg", f.dir/100, f.dir%100, f.id))
}

func (t *tree) fresh(dir uint32) file {
	t.made++
	return file{dir, t.made}
}

// create makes a small file of random size and content.
func (t *tree) create(dir uint32) error {
	f := t.fresh(dir)
	t.files = append(t.files, f)
	return t.write(f)
}

func (t *tree) write(f file) error {
	data := make([]byte, 200+t.rnd.IntN(5800))
	for i := 0; i < len(data)-8; i += 8 {
		v := t.rnd.Uint64()
		for j := range 8 {
			data[i+j] = byte(v >> (8 * j))
		}
	}
	return os.WriteFile(t.path(f), data, 0o644)
}

// change makes n changes to files drawn at random, so that nearly all folders are touched: of 20, 12 rewrite a file, 3 make
// one, 3 delete one, 1 moves one to another folder, 1 changes a mode.
func (t *tree) change(n int) error {
	for i := range n {
		at := t.rnd.IntN(len(t.files))
		f := t.files[at]
		path := t.path(f)
		var err error
		switch k := i % 20; {
		case k < 12:
			err = t.write(f)
		case k < 15:
			err = t.create(f.dir)
		case k < 18:
			t.files[at] = t.files[len(t.files)-1]
			t.files = t.files[:len(t.files)-1]
			err = os.Remove(path)
		case k < 19:
			t.files[at] = t.fresh(t.rnd.Uint32N(t.dirs))
			err = os.Rename(path, t.path(t.files[at]))
		default:
			err = os.Chmod(path, os.FileMode(0o600+t.rnd.IntN(0o100)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
