package conformance

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/job"
)

// TestLVMPoolFull: another volume fills the source's thin pool in the middle of a run: its data, or its metadata. The run is right or says what
// is full, and so do check and the next run; the source is as it was; after lvextend it goes on.
func TestLVMPoolFull(t *testing.T) {
	t.Run("data", func(t *testing.T) {
		p := newSmallPool(t, "192M")
		other := p.volume("other", "1G")
		p.goesFull(func() { p.write(other, 1<<30, 1<<20, 1<<20) }, "the data of the thin pool "+p.name, "lvextend -L +SIZE "+p.name)
		command(t, "lvextend", "-q", "-L", "+1G", p.name)
		p.goesOn()
	})
	if !Soak() { // it takes as long as ten other tests; most of it is to fill the metadata
		return
	}
	t.Run("metadata", func(t *testing.T) {
		p := newSmallPool(t, "1200M")
		const size = 320 << 20
		other := p.volume("other", strconv.Itoa(size)+"b")
		p.write(other, size, 1<<20, 1<<20)
		id := strings.TrimSpace(command(t, "lvs", "--noheadings", "-o", "thin_id", p.vg+"/other"))
		dm := func(name string) string { return strings.ReplaceAll(p.vg, "-", "--") + "-" + name }
		p.goesFull(func() {
			// A snapshot shares all blocks of the mapping with its origin: each that is written to afterwards is made anew. (LVM itself makes
			// none where three quarters are in use.)
			for i, room := 10000, true; room; i++ {
				command(t, "dmsetup", "suspend", "--noudevsync", dm("other"))
				_, err := exec.Command("dmsetup", "message", dm("small-tpool"), "0", fmt.Sprint("create_snap ", i, " ", id)).CombinedOutput()
				command(t, "dmsetup", "resume", "--noudevsync", dm("other"))
				room = p.write(other, size, 4<<20, 4<<10) && err == nil
			}
			t.Log(command(t, "dmsetup", "status", dm("small-tpool")))
		}, "the metadata of the thin pool "+p.name, "lvextend --poolmetadatasize +SIZE "+p.name)
		command(t, "lvextend", "-q", "--poolmetadatasize", "+32M", p.name)
		p.goesOn()
	})
}

// smallPool is a job whose source is in a thin pool of its own.
type smallPool struct {
	*bench
	vg, name string
}

func newSmallPool(t *testing.T, size string) *smallPool {
	t.Helper()
	group := filepath.Dir(NewVolume(t, Thin, 16<<20).Name)
	p := &smallPool{bench: &bench{TB: t}, vg: group, name: group + "/small"}
	command(t, "lvcreate", "-q", "-y", "-L", size, "--poolmetadatasize", "2M", "-c", "64k", "--errorwhenfull", "y", "-T", p.name)
	t.Cleanup(func() { command(t, "lvremove", "-q", "-f", "-y", p.name) })
	dir := filepath.Join(t.TempDir(), "mnt")
	p.bench = newBench(t, driver{name: "lvm", make: func(t testing.TB) origin {
		dev := p.volume("source", "320M")
		command(t, "mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0", dev)
		command(t, "mkdir", dir)
		command(t, "mount", dev, dir)
		t.Cleanup(func() { command(t, "umount", dir) })
		command(t, "rm", "-r", dir+"/lost+found")
		return origin{source: p.vg + "/source", dir: dir, live: true}
	}}, Ext4)
	return p
}

// volume makes a thin volume and gives its device.
func (p *smallPool) volume(name, size string) string {
	p.Helper()
	command(p, "lvcreate", "-q", "-y", "-V", size, "-T", p.name, "-n", name)
	return "/dev/" + p.vg + "/" + name
}

// write writes some bytes, past the page cache, at every step of a device up to end, or until there is no room.
// false: there was none.
func (p *smallPool) write(dev string, end, step int64, bytes int) bool {
	p.Helper()
	fd, err := unix.Open(dev, unix.O_WRONLY|unix.O_DIRECT, 0)
	p.must(err)
	defer unix.Close(fd)
	buf, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	p.must(err)
	defer unix.Munmap(buf)
	for off := int64(0); off < end; off += step {
		if _, err := unix.Pwrite(fd, buf, off); err != nil {
			p.Logf("%s is full at byte %d: %v", dev, off, err)
			return false
		}
	}
	return true
}

// goesFull makes a run in the middle of which the pool is filled, and one with the full pool.
func (p *smallPool) goesFull(fill func(), words, next string) {
	p.Helper()
	Apply(p, p.origin.dir, Create("a", 50000, 1), Mkdir("d"), Create("d/b", 10, 2))
	p.run()
	Apply(p, p.origin.dir, Append("a", 10, 3), Rename("d", "e"), Create("c", 9, 4), Sync())
	source := Judge(p, p.origin.dir, p.origin.dir)
	filled := false
	reports, err := job.Run(p.Context(), p.job, job.Options{Say: func(format string, args ...any) {
		p.Logf(format, args...)
		if strings.HasPrefix(format, "snapshot ") {
			filled = true
			fill()
		}
	}})
	if !filled {
		p.Fatal("the pool was not filled in the run")
	}
	p.Logf("the run in which it filled up: %v, %q", err, hint.Of(err))
	switch {
	case err == nil:
		p.past[reports[0].Run] = p.judge()
	case !strings.Contains(err.Error(), p.name) || !strings.Contains(hint.Of(err), "lvextend"):
		p.Errorf("it is not said what is full, and what to do: %v, %q", err, hint.Of(err))
	}
	p.checks(job.Missing, words, next)
	p.fails(words, next)
	source.Judge(p, p.origin.dir)
}

// goesOn makes runs when there is room again.
func (p *smallPool) goesOn() {
	p.Helper()
	Apply(p, p.origin.dir, Append("a", 10, 5), Remove("c"), Create("f", 9, 6))
	p.runAll()
	Apply(p, p.origin.dir, Append("a", 10, 7))
	p.native()
	p.judgePast()
}
