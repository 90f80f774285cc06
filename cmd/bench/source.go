package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// filesPerDir is the mean size of a folder where nothing else is asked for, as in a mail store.
const filesPerDir = 500

// shape is how files lie in folders.
type shape struct {
	perDir int  // files in a folder
	deep   bool // each folder lies in the one before; otherwise 100 in each folder above
	bytes  int  // of a file at most; at least it has a thirtieth of that
}

// tree is the source and how it changes.
type tree struct {
	shape
	root    string
	dirs    uint32
	files   []file // in no order
	made    uint32 // names ever made
	rnd     *rand.Rand
	touched []uint32 // by id: the last round that changed the file
	rounds  uint32
	busy    uint32 // only the first so many folders change; 0: all
}

// file is a name, d0012/d34/ID.msg, in 8 bytes: that of a benchmark with millions of files stays small.
type file struct{ dir, id uint32 }

func newTree(root string, files int, seed uint64, s shape) (*tree, error) {
	t := &tree{shape: s, root: root, dirs: uint32(max(files/s.perDir, 1)), rnd: rand.New(rand.NewPCG(seed, 0))}
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

// path of a file.
func (t *tree) path(f file) string {
	if t.deep {
		return fmt.Sprintf("%s/%s%d.msg", t.root, strings.Repeat("deeper/", int(f.dir)+1), f.id)
	}
	return fmt.Sprintf("%s/d%04d/d%02d/%d.msg", t.root, f.dir/100, f.dir%100, f.id)
}

func (t *tree) fresh(dir uint32) file {
	t.made++
	t.touched = append(t.touched, t.rounds)
	return file{dir, t.made}
}

// create makes a small file of random size and content.
func (t *tree) create(dir uint32) error {
	f := t.fresh(dir)
	t.files = append(t.files, f)
	return t.write(f)
}

func (t *tree) write(f file) error {
	data := make([]byte, t.bytes/30+t.rnd.IntN(t.bytes-t.bytes/30+1))
	for i := 0; i < len(data)-8; i += 8 {
		v := t.rnd.Uint64()
		for j := range 8 {
			data[i+j] = byte(v >> (8 * j))
		}
	}
	return os.WriteFile(t.path(f), data, 0o644)
}

// changing is how many folders change.
func (t *tree) changing() uint32 {
	if t.busy == 0 {
		return t.dirs
	}
	return min(t.busy, t.dirs)
}

// draw gives the index of a file that this round has not changed yet, drawn at random, so that nearly all folders are touched.
func (t *tree) draw() int {
	for {
		at := t.rnd.IntN(len(t.files))
		if f := t.files[at]; t.touched[f.id-1] != t.rounds && f.dir < t.changing() {
			t.touched[f.id-1] = t.rounds
			return at
		}
	}
}

// change makes n changes, each to another file: of 20, 12 rewrite a file, 3 make one, 3 delete one, 1 moves one to another folder, 1
// changes a mode.
func (t *tree) change(n int) error {
	t.rounds++
	for i := range n {
		if k := i % 20; k >= 12 && k < 15 {
			if err := t.create(t.rnd.Uint32N(t.changing())); err != nil {
				return err
			}
			continue
		}
		at := t.draw()
		f := t.files[at]
		path := t.path(f)
		var err error
		switch k := i % 20; {
		case k < 12:
			err = t.write(f)
		case k < 18:
			t.files[at] = t.files[len(t.files)-1]
			t.files = t.files[:len(t.files)-1]
			err = os.Remove(path)
		case k < 19:
			t.files[at] = t.fresh(t.rnd.Uint32N(t.changing()))
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

// deliver makes one new message in each of so many folders.
func (t *tree) deliver(n int) error {
	t.rounds++
	for i := range n {
		if err := t.create(uint32(i) % t.dirs); err != nil {
			return err
		}
	}
	return nil
}
