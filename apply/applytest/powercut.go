package applytest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// Disk is a disk that remembers every write and every flush, so that a power cut can be played at any moment: what reached the
// disk up to a flush, and nothing after it. It is the kernel's dm-log-writes over loop devices; NeedLVM tells where there is
// one.
type Disk struct {
	testing.TB
	kind             Kind
	size             int64
	dir              string // where its filesystem is mounted
	base, log, state string // image files; state is what has been played so far
	name             string // of the device-mapper device
	reader           *logReader
}

// NewDisk makes a disk with a filesystem in it, and mounts it.
func NewDisk(t testing.TB, kind Kind, size int64) *Disk {
	t.Helper()
	NeedLVM(t)
	modprobe(t, "dm-log-writes")
	base := t.TempDir()
	d := &Disk{TB: t, kind: kind, size: size, dir: filepath.Join(base, "mnt"), base: filepath.Join(base, "disk"), log: filepath.Join(base, "log"),
		state: filepath.Join(base, "state"), name: fmt.Sprintf("snapdiff-log-%d", os.Getpid())}
	for _, path := range []string{d.base, d.log, d.state} {
		d.must(os.WriteFile(path, nil, 0o600))
	}
	d.must(os.Truncate(d.base, size), os.Truncate(d.state, size), os.Truncate(d.log, 8*size), os.Mkdir(d.dir, 0o700))
	table := fmt.Sprintf("0 %d log-writes %s %s", size/512, d.attach(d.base), d.attach(d.log))
	dmsetup(d, "create", d.name, "--table", table)
	t.Cleanup(d.remove)
	device := "/dev/mapper/" + d.name
	argv := append(mkfs[kind][:len(mkfs[kind]):len(mkfs[kind])], device)
	command(t, argv[0], argv[1:]...)
	command(t, "mount", "-t", string(kind), device, d.dir)
	removeLostAndFound(t, d.dir)
	return d
}

// dmsetup runs dmsetup(8), which has to make the device nodes itself: there is no udev in the test machine.
func dmsetup(t testing.TB, args ...string) {
	t.Helper()
	command(t, "env", append([]string{"DM_DISABLE_UDEV=1", "dmsetup"}, args...)...)
}

func modprobe(t testing.TB, module string) {
	t.Helper()
	command(t, "modprobe", module)
}

// attach gives an image a loop device until the test ends.
func (d *Disk) attach(image string) string {
	d.Helper()
	return attachLoop(d, image)
}

func (d *Disk) must(errs ...error) {
	d.Helper()
	if err := errors.Join(errs...); err != nil {
		d.Fatal(err)
	}
}

// Dir is where the disk's filesystem is mounted, now the disk itself, after CutAfter what was left of it.
func (d *Disk) Dir() string { return d.dir }

// Mark puts a mark into the log; Moments counts from the last one.
func (d *Disk) Mark(text string) {
	d.Helper()
	dmsetup(d, "message", d.name, "0", "mark", text)
}

// Stop ends the recording: the disk is unmounted. It gives the number of moments since the mark at which the disk had been
// told to keep what it was given.
func (d *Disk) Stop(mark string) (moments int) {
	d.Helper()
	command(d, "umount", d.dir)
	d.remove()
	f, err := os.Open(d.log)
	d.must(err)
	d.Cleanup(func() { f.Close() })
	count, err := newLogReader(f)
	d.must(err)
	d.must(count.play(nil, func(e logEntry) bool { return e.isMark(mark) }))
	for {
		err := count.play(nil, logEntry.isDurable)
		if errors.Is(err, io.EOF) {
			break
		}
		d.must(err)
		moments++
	}
	d.reader, err = newLogReader(f)
	d.must(err)
	to, err := os.OpenFile(d.state, os.O_WRONLY, 0)
	d.must(err)
	d.must(d.reader.play(to, func(e logEntry) bool { return e.isMark(mark) }), to.Close())
	return moments
}

// remove takes the device away; it may be gone already.
func (d *Disk) remove() {
	run("umount", d.dir)
	run("env", "DM_DISABLE_UDEV=1", "dmsetup", "remove", d.name)
}

// PlayOn lets the disk take so many more moments and mounts a copy of what is on it then: what a machine finds after the power
// came back. The result unmounts it; then PlayOn may be called again.
func (d *Disk) PlayOn(moments int) (unmount func()) {
	d.Helper()
	to, err := os.OpenFile(d.state, os.O_WRONLY, 0)
	d.must(err)
	for range moments {
		d.must(d.reader.play(to, logEntry.isDurable))
	}
	d.must(to.Close())
	copied := d.state + ".cut"
	command(d, "cp", "--sparse=always", d.state, copied)
	command(d, "mount", "-o", "loop", "-t", string(d.kind), copied, d.dir)
	return func() {
		d.Helper()
		command(d, "umount", d.dir)
		d.must(os.Remove(copied))
	}
}

// The log's layout is that of drivers/md/dm-log-writes.c: a super block in the first sector, then entries of one sector each
// (struct log_write_entry), each followed by the sectors that it wrote.
const (
	logMagic   = 0x6a736677736872
	logVersion = 1

	logFlush   = 1 << 0
	logFUA     = 1 << 1
	logDiscard = 1 << 2
	logMark    = 1 << 3
)

// logEntry is one write, flush, discard or mark.
type logEntry struct {
	sector, sectors, flags uint64 // on the logged device, in its sectors
	data                   []byte // what was written, or the text of a mark
}

func (e logEntry) isMark(text string) bool { return e.flags&logMark != 0 && string(e.data) == text }

// isDurable tells that all before this entry, and the entry itself, is on the disk for good.
func (e logEntry) isDurable() bool { return e.flags&(logFlush|logFUA) != 0 }

type logReader struct {
	log        io.ReaderAt
	sectorSize int64
	at         int64 // offset of the next entry
	left       uint64
}

func newLogReader(log io.ReaderAt) (*logReader, error) {
	var super [28]byte // magic, version, nr_entries: __le64; sectorsize: __le32
	if _, err := log.ReadAt(super[:], 0); err != nil {
		return nil, fmt.Errorf("log of writes: %w", err)
	}
	if binary.LittleEndian.Uint64(super[0:]) != logMagic || binary.LittleEndian.Uint64(super[8:]) != logVersion {
		return nil, errors.New("log of writes: no log of version 1")
	}
	size := int64(binary.LittleEndian.Uint32(super[24:]))
	return &logReader{log: log, sectorSize: size, at: size, left: binary.LittleEndian.Uint64(super[16:])}, nil
}

// next reads an entry; io.EOF behind the last.
func (r *logReader) next() (e logEntry, err error) {
	if r.left == 0 {
		return e, io.EOF
	}
	head := make([]byte, r.sectorSize) // sector, nr_sectors, flags, data_len: __le64; then the text of a mark
	if _, err := r.log.ReadAt(head, r.at); err != nil {
		return e, fmt.Errorf("log of writes: %w", err)
	}
	field := func(i int) uint64 { return binary.LittleEndian.Uint64(head[8*i:]) }
	e = logEntry{sector: field(0), sectors: field(1), flags: field(2)}
	r.left--
	r.at += r.sectorSize
	switch {
	case e.flags&logMark != 0:
		e.data = head[32 : 32+field(3)]
	case e.flags&logDiscard == 0 && e.sectors > 0:
		e.data = make([]byte, int64(e.sectors)*r.sectorSize)
		if _, err := r.log.ReadAt(e.data, r.at); err != nil {
			return e, fmt.Errorf("log of writes: %w", err)
		}
		r.at += int64(len(e.data))
	}
	return e, nil
}

// play writes entries to a disk (nil: nowhere) up to and with the first for which until holds; io.EOF when there is none.
func (r *logReader) play(to io.WriterAt, until func(logEntry) bool) error {
	for {
		e, err := r.next()
		if err != nil {
			return err
		}
		if to != nil && e.flags&logMark == 0 {
			if _, err := to.WriteAt(e.data, int64(e.sector)*r.sectorSize); err != nil {
				return err
			}
			if e.flags&logDiscard != 0 { // a discarded block may hold anything; zeros are the worst
				if err := zero(to, int64(e.sector)*r.sectorSize, int64(e.sectors)*r.sectorSize); err != nil {
					return err
				}
			}
		}
		if until(e) {
			return nil
		}
	}
}

// zero writes zeros, in pieces: mkfs discards the whole disk, and the test machine has one mapping for each page of a process, and not many.
func zero(to io.WriterAt, off, length int64) error {
	piece := make([]byte, 1<<20)
	for end := off + length; off < end; {
		n, err := to.WriteAt(piece[:min(int64(len(piece)), end-off)], off)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}
