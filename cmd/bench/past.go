package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// past measures what restore points cost to look at, to bring back and to drop: each beside the same from the mirror itself, which is
// an ordinary tree.
type past struct {
	*snapdiff
	tree, to string // the mirror; where copies go
	rows     []pastRow
}

// pastRow is a line of the table.
type pastRow struct {
	what, peer, mark string
	peerTook, took   []figure
}

const (
	largeBytes = 1 << 30
	// smallFiles are the folders that newTree makes, and so all small files; beside them lie "large" and "wide".
	smallFiles = `d[0-9]*`
)

// runPast makes the store with its restore points, measures and writes the table.
func (b *bench) runPast() (err error) {
	target, err := newDisk(b.work, "target", b.mirror, 8*b.files+b.wide)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, target.remove(), os.Remove(target.mount)) }()
	p := &past{snapdiff: &snapdiff{bench: b}, to: filepath.Join(target.mount, "out")}
	if err := p.prepare(target.mount); err != nil {
		return err
	}
	p.tree = filepath.Join(p.store, "tree")
	if err := p.addLargeAndWide(); err != nil {
		return err
	}
	if err := p.run(0); err != nil { // r1
		return err
	}
	if err := p.run(b.changes); err != nil { // r2: r1 is in the past
		return err
	}
	for range b.repeat {
		if err := errors.Join(p.mounted(), p.restored()); err != nil {
			return err
		}
	}
	for _, step := range []func() error{p.pruned, func() error { return p.logged(target.mount) }} {
		if err := step(); err != nil {
			return err
		}
	}
	p.writeTable(os.Stdout)
	return nil
}

// addLargeAndWide adds one large file and one directory of many names to the source.
func (p *past) addLargeAndWide() error {
	release, err := p.hold()
	if err != nil {
		return err
	}
	defer release()
	say("making a file of %d MB and a directory of %d names", largeBytes>>20, p.wide)
	random, err := os.Open("/dev/urandom")
	if err != nil {
		return err
	}
	defer random.Close()
	large, err := os.Create(filepath.Join(p.source, "large"))
	if err != nil {
		return err
	}
	_, err = io.CopyN(large, random, largeBytes)
	if err = errors.Join(err, large.Close(), os.Mkdir(filepath.Join(p.source, "wide"), 0o755)); err != nil {
		return err
	}
	for i := range p.wide {
		if err := os.WriteFile(filepath.Join(p.source, "wide", fmt.Sprintf("%d.msg", i)), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// configure writes the configuration anew, with another keep.
func (p *past) configure(keep string) error {
	text := fmt.Sprintf("[jobs.bench]\nsource = %q\nstore = %q\n%s\n", p.source, p.store, keep)
	return os.WriteFile(p.config, []byte(text), 0o600)
}

// run makes a restore point after so many changes.
func (p *past) run(changes int) error {
	if err := p.configure(""); err != nil { // every run prunes
		return err
	}
	release, err := p.hold()
	if err != nil {
		return err
	}
	defer release()
	if changes > 0 {
		if err := p.bench.tree.change(changes); err != nil {
			return err
		}
	}
	cmd := p.command("run")
	return command(cmd.Args...)
}

// compare measures both and adds them to the row of that name.
func (p *past) compare(what, mark, peer string, peerArgs, args []string) error {
	i := p.row(what, mark, peer)
	for _, m := range []struct {
		who  string
		args []string
		to   *[]figure
	}{{peer, peerArgs, &p.rows[i].peerTook}, {p.name(), args, &p.rows[i].took}} {
		if m.args == nil {
			continue
		}
		t, err := p.timing(timedJob{Args: m.args, Warm: []string{p.tree}, Btrfs: p.snapshots})
		if err != nil {
			return err
		}
		f := figure{what: what, who: m.who, seconds: t.Seconds, peak: t.Peak}
		p.add(f)
		*m.to = append(*m.to, f)
	}
	return nil
}

// row finds a row or makes it.
func (p *past) row(what, mark, peer string) int {
	for i := range p.rows {
		if p.rows[i].what == what {
			return i
		}
	}
	p.rows = append(p.rows, pastRow{what: what, mark: mark, peer: peer})
	return len(p.rows) - 1
}

func (p *past) name() string { return "snapdiff" }

// in is a script that gets a directory.
func in(script, dir string) []string {
	return []string{"bash", "-ec", "set -o pipefail; cd \"$1\"; " + script, "bash", dir}
}

// mounted compares reading r1, mounted, with reading the mirror. Each measurement has a mount of its own, of which the kernel knows
// nothing yet.
func (p *past) mounted() error {
	copies := `cp -a ` + smallFiles + " " + p.to
	for _, m := range []struct{ what, script string }{
		{"mount: list all small files with attributes (find -size)", `find ` + smallFiles + ` -size -0`},
		{"mount: the same again, known to the kernel", `find ` + smallFiles + ` -size -0`},
		{"mount: read all small files (tar)", `tar -c ` + smallFiles + ` | cat > /dev/null`},
		{"mount: copy all small files (cp -r)", strings.Replace(copies, "-a", "-r", 1)},
		{"mount: copy all small files (cp -a, asks for extended attributes)", copies},
		{"mount: read a file of 1 GiB", `cat large > /dev/null`},
		{fmt.Sprintf("mount: list %d names in one directory (ls -U)", p.wide), `ls -U wide | wc -l`},
	} {
		if err := p.oneMounted(m.what, m.script); err != nil {
			return err
		}
	}
	return nil
}

func (p *past) oneMounted(what, script string) (err error) {
	if err := p.emptyTarget(); err != nil {
		return err
	}
	if err := p.compare(what, "", "the mirror", in(script, p.tree), nil); err != nil {
		return err
	}
	if err := p.emptyTarget(); err != nil {
		return err
	}
	dir := filepath.Join(p.work, "past")
	server, err := p.serve(dir)
	if err != nil {
		return err
	}
	if strings.Contains(what, "again") {
		if err := command(in(script, dir)...); err != nil {
			return errors.Join(err, server.end())
		}
	}
	err = p.compare(what, "", "the mirror", nil, in(script, dir))
	i := p.row(what, "", "")
	if took := p.rows[i].took; err == nil && len(took) > 0 {
		took[len(took)-1].peak = server.peak()
		say("%-28s %-36s %5d MB", "", "the mount", server.peak()>>20)
	}
	return errors.Join(err, server.end())
}

// emptyTarget removes what was copied.
func (p *past) emptyTarget() error {
	if err := os.RemoveAll(p.to); err != nil {
		return err
	}
	return os.Mkdir(p.to, 0o700)
}

// server is a mount of r1.
type server struct {
	cmd *exec.Cmd
	end func() error
}

// serve mounts r1.
func (p *past) serve(dir string) (*server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	cmd := p.command("mount", "--foreground", "r1", dir)
	cmd.Stderr = io.Discard // the restore point that was chosen
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, fmt.Errorf("mount of r1: %w", errors.Join(err, cmd.Wait()))
	}
	return &server{cmd, func() error {
		err := command(p.binary, "umount", dir)
		if err != nil { // somebody else looks into it
			err = errors.Join(err, cmd.Process.Kill(), command("umount", "-l", dir))
		}
		return errors.Join(err, cmd.Wait())
	}}, nil
}

// peak is the memory that a mount has taken at most, in bytes.
func (s *server) peak() (bytes int64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &bytes); n == 1 {
			return bytes << 10
		}
	}
	return 0
}

// restored compares bringing back all small files with copying them out of the mirror.
func (p *past) restored() error {
	what := fmt.Sprintf("restore of %d files", p.files)
	if err := p.emptyTarget(); err != nil {
		return err
	}
	if err := p.compare(what, "", "cp -a of the mirror", in(`cp -a `+smallFiles+" "+p.to, p.tree), nil); err != nil {
		return err
	}
	if err := p.emptyTarget(); err != nil {
		return err
	}
	script := fmt.Sprintf(`ls -d %s | %q --config %q restore r1 --files-from - %q`, smallFiles, p.binary, p.config, p.to)
	return p.compare(what, "", "cp -a of the mirror", nil, in(script, p.tree))
}

// pruned measures dropping a restore point between two others: one with few changes, and one after which every file changed twice.
// Beside it is the removing of as many files.
func (p *past) pruned() error {
	for _, changes := range []int{p.changes, p.files} {
		if err := errors.Join(p.run(changes), p.run(changes)); err != nil {
			return err
		}
		if err := p.dateTheMiddle(); err != nil {
			return err
		}
		what := fmt.Sprintf("prune of one restore point, %d changes before it and after it", changes)
		if err := p.compare(what, "", "rm -r of as many files", p.removal(changes), p.command("prune").Args); err != nil {
			return err
		}
	}
	return nil
}

// dateTheMiddle gives all restore points but the two newest years of their own, so that a keep that counts years drops the one
// before the newest alone.
func (p *past) dateTheMiddle() error {
	conn, err := sqlite.OpenConn(filepath.Join(p.store, "catalog.db"), sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	const year = 366 * 24 * time.Hour
	err = sqlitex.Execute(conn, `UPDATE runs SET date = ?1 - ?2 * (SELECT count(*) FROM runs n WHERE n.id > runs.id) WHERE id < (SELECT max(id) - 1 FROM runs)`,
		&sqlitex.ExecOptions{Args: []any{time.Now().UnixNano(), int64(year)}})
	if err == nil {
		err = sqlitex.Execute(conn, `UPDATE runs SET date = ?1 - id WHERE id = (SELECT max(id) - 1 FROM runs)`, &sqlitex.ExecOptions{Args: []any{time.Now().UnixNano()}})
	}
	if err = errors.Join(err, conn.Close()); err != nil {
		return err
	}
	return p.configure("keep = { yearly = 99 }")
}

// removal removes so many files that were copied out.
func (p *past) removal(files int) []string {
	script := fmt.Sprintf(`find %s -type f | head -n %d > ../remove.list || true; tr '\n' '\0' < ../remove.list | xargs -0 rm -f; rm ../remove.list`, smallFiles, files)
	return in(script, p.to)
}

func (p *past) writeTable(out io.Writer) {
	fmt.Fprintf(out, "%d small files in %d folders, %d changes since, mirror on %s, warm, median of %d\n\n", p.files, p.bench.tree.dirs, p.changes, p.mirror, p.repeat)
	fmt.Fprintln(out, "| what | beside it | seconds | snapdiff, seconds | ratio | peak memory of snapdiff |\n| --- | --- | ---: | ---: | ---: | ---: |")
	for _, r := range p.rows {
		took, peak := median(r.took)
		line := fmt.Sprintf("| %s | | | %.3f | %s | %d MB |", r.what, took, r.mark, peak>>20)
		if len(r.peerTook) > 0 {
			peer, _ := median(r.peerTook)
			line = fmt.Sprintf("| %s | %s | %.3f | %.3f | %.2f | %d MB |", r.what, r.peer, peer, took, took/peer, peak>>20)
		}
		fmt.Fprintln(out, line)
	}
}
