package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// about is what figures were made with: the class of machine, and the versions of the programs by their names.
type about struct {
	Processors int               `json:"processors"`
	Memory     int64             `json:"memory"` // bytes
	Kernel     string            `json:"kernel"`
	Versions   map[string]string `json:"versions"`
}

// versions are how programs tell theirs: the first thing with a dot in what they print.
var versions = map[string][]string{
	"rsync": {"rsync", "--version"}, "btrfs-progs": {"btrfs", "--version"}, "restic": {"restic", "version"}, "borg": {"borg", "--version"},
	"rdiff-backup": {"rdiff-backup", "--version"}, "rsnapshot": {"rsnapshot", "version"}, "fpsync": {"fpsync", "-h"}, "cp": {"cp", "--version"},
	"tar": {"tar", "--version"},
}

var version = regexp.MustCompile(`[0-9]+\.[0-9][0-9a-zA-Z.]*`)

// here describes this machine.
func here() *about {
	a := &about{Processors: runtime.NumCPU(), Versions: map[string]string{}}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		a.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		a.Kernel = version.FindString(unix.ByteSliceToString(name.Release[:]))
	}
	for program, args := range versions {
		out, _ := exec.Command(args[0], args[1:]...).CombinedOutput() // some exit with 1 and tell it all the same
		if v := version.Find(out); v != nil {
			a.Versions[program] = string(v)
		}
	}
	return a
}

// String is for people.
func (a *about) String() string {
	return fmt.Sprintf("%d processors, %d GB of memory, Linux %s", a.Processors, (a.Memory+1<<29)>>30, a.Kernel)
}

// shown is a command as a reader wants to see it: of a pipeline the pipeline, and no folders of this benchmark's own. "" for what this program
// itself does.
func (b *bench) shown(args []string) string {
	if strings.HasPrefix(args[0], "/proc/") {
		return ""
	}
	if args[0] == "sh" { // see peer.run
		args = args[4:]
	}
	if args[0] == "bash" { // see shell
		args = args[4:5]
	}
	text := strings.Join(strings.Fields(strings.Join(args, " ")), " ")
	for _, r := range [][2]string{{b.binary, "snapdiff"}, {b.at(), "SOURCE"}, {b.snapshots + "/round-", "SNAPSHOT-"}, {b.source, "SOURCE"}, {b.work + "/target", "TARGET"}, {b.work + "/", ""}} {
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	return text
}
