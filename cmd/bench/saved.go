package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// saved is a line of the file that -save names: a figure, or what the figures after it were made with.
type saved struct {
	Case    string  `json:"case"` // of -growth; "" for the comparison with others
	Files   int     `json:"files"`
	Folders int     `json:"folders,omitempty"`
	Bytes   int     `json:"bytes,omitempty"` // of a file at most
	Changes int     `json:"changes"`
	Mirror  string  `json:"mirror"`
	What    string  `json:"what"`
	Who     string  `json:"who"`
	Command string  `json:"command,omitempty"`
	Seconds float64 `json:"seconds"`
	Peak    int64   `json:"peak"`
	Room    int64   `json:"room,omitempty"` // bytes that something takes on a disk; then nothing was timed

	About *about `json:"about,omitempty"`
}

// keep adds a figure to the file.
func (b *bench) keep(f figure) {
	folders := 0
	if b.tree != nil {
		folders = int(b.tree.dirs)
	}
	b.append(saved{Case: b.title, Files: b.files, Folders: folders, Bytes: b.bytes, Changes: b.changes, Mirror: b.mirror,
		What: f.what, Who: f.who, Command: f.command, Seconds: f.seconds, Peak: f.peak, Room: f.room})
}

// append adds a line to the file.
func (o *options) append(s saved) {
	if o.save == "" {
		return
	}
	line, err := json.Marshal(s)
	if err == nil {
		var out *os.File
		if out, err = os.OpenFile(o.save, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err == nil {
			_, err = out.Write(append(line, '\n'))
			err = errors.Join(err, out.Close())
		}
	}
	if err != nil {
		say("the figure is not saved: %v", err)
	}
}

// readSaved reads the figures, and what the last of them were made with; nil where that was not saved.
func readSaved(path string) (all []saved, by *about, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		var f saved
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		if f.About != nil {
			by = f.About
			continue
		}
		all = append(all, f)
	}
	return all, by, lines.Err()
}
