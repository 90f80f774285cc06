package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A peer is another program that keeps a copy of the past. All of them walk the source, which they find at one path whatever the
// round: each looks up by path what it knows.
type peer struct {
	*bench
	title, program string
	env            func(target string) []string
	begin          func(target string) [][]string // commands that make the empty copy
	backup         func(target string, n int) []string
	mirror         string // where the plain copy lies below target; "" for a repository
	firstOnly      bool   // it copies and knows no second time; that what it copied is on the disk is waited for

	place string
	runs  int
}

// at is where peers find the source: the snapshot of the round is bound to it.
func (b *bench) at() string { return filepath.Join(b.work, "at") }

// show binds a snapshot to the place where peers look.
func (b *bench) show(snapshot string) error {
	if err := os.MkdirAll(b.at(), 0o700); err != nil {
		return err
	}
	if err := b.hide(); err != nil {
		return err
	}
	return unix.Mount(snapshot, b.at(), "", unix.MS_BIND, "")
}

func (b *bench) hide() error {
	if err := unix.Unmount(b.at(), 0); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("unmount %s: %w", b.at(), err)
	}
	return nil
}

func (p *peer) name() string   { return p.title }
func (p *peer) target() string { return p.bench.mirror }

func (p *peer) prepare(target string) error {
	p.place = target
	if p.begin == nil {
		return nil
	}
	for _, args := range p.begin(target) {
		cmd := p.cmd(args)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

func (p *peer) cmd(args []string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	if p.env != nil {
		cmd.Env = append(os.Environ(), p.env(p.place)...)
	}
	return cmd
}

func (p *peer) run(snapshot string) *exec.Cmd {
	if err := p.show(snapshot); err != nil {
		say("%s: %v", p.title, err)
		return nil
	}
	time.Sleep(time.Second) // rdiff-backup names its sessions by the second
	p.runs++
	args := p.backup(p.place, p.runs)
	if p.firstOnly {
		args = append([]string{"sh", "-c", `"$@" && sync -f "$0"`, p.place}, args...)
	}
	return p.cmd(args)
}

func (p *peer) first() *exec.Cmd                     { return p.run(p.rounds[0].snapshot) }
func (p *peer) find(_, _ string) *exec.Cmd           { return nil }
func (p *peer) once() bool                           { return p.firstOnly }
func (p *peer) idle(last string) *exec.Cmd           { return p.run(last) }
func (p *peer) copyOf(string) string                 { return filepath.Join(p.place, p.mirror) }
func (p *peer) incremental(_, next string) *exec.Cmd { return p.run(next) }

// peers are those that Debian has.
func (b *bench) peers() []*peer {
	from := b.at() + "/"
	return []*peer{
		{title: "cp -a", program: "cp", firstOnly: true, backup: func(t string, _ int) []string { return []string{"cp", "-a", b.at(), t + "/tree"} }},
		b.fpsync("rsync", "-lptgoDAX --numeric-ids"), b.fpsync("cpio", ""), b.fpsync("tar", ""), b.parallelTar(),
		{title: "restic backup", program: "restic",
			env: func(t string) []string {
				return []string{"RESTIC_PASSWORD=bench", "RESTIC_REPOSITORY=" + t + "/repo", "RESTIC_CACHE_DIR=" + t + "/cache"}
			},
			begin: func(string) [][]string { return [][]string{{"restic", "init", "-q"}} },
			backup: func(string, int) []string {
				return []string{"restic", "backup", "-q", "--exclude", from + ".snapdiff", from}
			}},
		{title: "borg create", program: "borg",
			env:   func(t string) []string { return []string{"BORG_BASE_DIR=" + t, "BORG_REPO=" + t + "/repo"} },
			begin: func(string) [][]string { return [][]string{{"borg", "init", "-e", "none"}} },
			backup: func(_ string, n int) []string {
				return []string{"borg", "create", "--exclude", from + ".snapdiff", fmt.Sprintf("::r%d", n), from}
			}},
		{title: "rdiff-backup", program: "rdiff-backup", mirror: "tree",
			backup: func(t string, _ int) []string {
				return []string{"rdiff-backup", "--api-version", "201", "backup", "--exclude", from + ".snapdiff", from, t + "/tree"}
			}},
		{title: "rsnapshot", program: "rsnapshot", mirror: "alpha.0/here", begin: func(t string) [][]string {
			lines := []string{"config_version 1.2", "snapshot_root " + t + "/", "cmd_rsync /usr/bin/rsync", "retain alpha 9", "link_dest 1",
				"rsync_short_args -aHAX", "rsync_long_args --delete --numeric-ids --exclude=/.snapdiff", "backup " + from + " here/"}
			for i, l := range lines {
				key, value, _ := strings.Cut(l, " ")
				if k := strings.Fields(value); key == "retain" || key == "backup" {
					value = strings.Join(k, "\t")
				}
				lines[i] = key + "\t" + value
			}
			return [][]string{{"sh", "-c", `printf '%s\n' "$1" >"$2"`, "sh", strings.Join(lines, "\n"), t + "/rsnapshot.conf"}}
		},
			backup: func(t string, _ int) []string { return []string{"rsnapshot", "-c", t + "/rsnapshot.conf", "alpha"} }},
	}
}

// fpsync copies with several processes of another program at once.
func (b *bench) fpsync(tool, options string) *peer {
	return &peer{title: "fpsync -m " + tool, program: "fpsync", firstOnly: true,
		begin: func(t string) [][]string { return [][]string{{"mkdir", t + "/tree", t + "/tmp"}} },
		backup: func(t string, _ int) []string {
			args := []string{"fpsync", "-m", tool, "-n", fmt.Sprint(b.workers), "-t", t + "/tmp"}
			if options != "" {
				args = append(args, "-o", options)
			}
			return append(args, b.at()+"/", t+"/tree/")
		}}
}

// parallelTar copies some directories with each of several pairs of tar at once.
func (b *bench) parallelTar() *peer {
	const script = `cd "$1" && TO=$2 && export TO && find . -path ./.snapdiff -prune -o -type d -print0 |
xargs -0 -P "$3" -n 16 sh -c 'find "$@" -maxdepth 1 -print0 | tar -c --no-recursion --null -T - | tar -x --same-owner -p -C "$TO"' sh`
	return &peer{title: "find | xargs -P tar | tar", program: "tar", firstOnly: true,
		begin:  func(t string) [][]string { return [][]string{{"mkdir", t + "/tree"}} },
		backup: func(t string, _ int) []string { return shell(script, b.at(), t+"/tree", fmt.Sprint(b.workers)).Args }}
}

// contestants are those that were asked for.
func (b *bench) contestants() ([]contestant, error) {
	known := map[string][]contestant{"snapdiff": {&snapdiff{bench: b}}, "floor": {&bare{bench: b}}, "rsync": {&rsync{bench: b}}, "send": {&btrfsSend{bench: b}}}
	order := []string{"snapdiff", "floor", "rsync", "send"}
	for _, p := range b.peers() {
		p.bench = b
		if known[p.program] == nil {
			order = append(order, p.program)
		}
		known[p.program] = append(known[p.program], p)
	}
	asked := strings.Split(b.with, ",")
	if b.with == "all" {
		asked = order
	}
	if asked[0] != "snapdiff" {
		return nil, fmt.Errorf("-with %s: it begins with snapdiff, which the others are compared with (known: %s)", b.with, strings.Join(order, ","))
	}
	var list []contestant
	for _, name := range asked {
		some := known[name]
		if some == nil {
			return nil, fmt.Errorf("-with %s: known are %s, or all", name, strings.Join(order, ","))
		}
		if p, ok := some[0].(*peer); ok {
			if _, err := exec.LookPath(p.program); err != nil {
				say("%s is left out: %v", name, err)
				continue
			}
		}
		list = append(list, some...)
	}
	return list, nil
}
