package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// program runs a command line as a program of its own, with more in its environment and a standard input.
func (b *jobBench) program(env, stdin string, args ...string) (status int, out, said string) {
	b.t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"--config", b.config}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1", env)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// dated makes a restore point for each moment; the file "f" of each has the run's number.
func (b *jobBench) dated(moments ...string) {
	b.t.Helper()
	for i := range moments {
		b.must(os.WriteFile(filepath.Join(b.source, "f"), []byte(fmt.Sprint(i+1)), 0o600))
		b.silent("run")
	}
	conn, err := sqlite.OpenConn(b.catalog(), sqlite.OpenReadWrite)
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	for i, m := range moments {
		when, err := time.Parse(time.RFC3339, m)
		b.must(err, sqlitex.Execute(conn, `UPDATE runs SET date = ? WHERE id = ?`, &sqlitex.ExecOptions{Args: []any{when.UnixNano(), i + 1}}))
	}
}

// A date that lies ahead finds the newest restore point, and it is said.
func TestDatesInTheFuture(t *testing.T) {
	b, _ := twoPoints(t)
	ahead := time.Now().AddDate(0, 0, 2).Format("2006-01-02")
	said := ahead + " is in the future: the newest restore point that is not later is r2\n"
	dir := t.TempDir()
	b.refused(0, said+"restore point r2 of ", "restore", ahead, "anna", dir)
	b.refused(0, said+"from r1 of ", "diff", "r1", ahead)
	for _, date := range []string{"now", "today", "latest", fmt.Sprintf("@%d", time.Now().Unix())} {
		if out := b.snapdiff(0, "diff", "r1", date); strings.Contains(out, "future") || !strings.Contains(out, "to r2 of ") {
			t.Errorf("%s:\n%s", date, out)
		}
	}
	b.refused(1, "no such restore point", "diff", "@0", "now")
}

// What people write is taken in their time zone; where the clocks are put back or forward nothing is guessed; and what was chosen
// is said.
func TestDatesInTimeZones(t *testing.T) {
	b := newJobBench(t, "")
	b.snapdiff(0, "init")
	b.dated("2026-03-28T22:30:00Z", "2026-03-29T00:30:00Z", "2026-03-29T01:00:05Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T23:30:00Z")
	for _, c := range []struct{ zone, date, want string }{
		{"Europe/Berlin", "2026-03-28", "r1 of Sat 2026-03-28 23:30:00 +01:00"},
		{"Europe/Berlin", "2026-03-29", "r3 of Sun 2026-03-29 03:00:05 +02:00"},
		{"Europe/Berlin", "2026-03-29T01:59", "r2 of Sun 2026-03-29 01:30:00 +01:00"},
		{"Europe/Berlin", "2026-03-29 02:30", "refused: went from 01:59:59 +01:00 to 03:00:00 +02:00"},
		{"Europe/Berlin", "2026-10-25 02:30", "refused: write 2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00"},
		{"Europe/Berlin", "2026-10-25T02:30+02:00", "r4 of Sun 2026-10-25 02:30:00 +02:00"},
		{"Europe/Berlin", "2026-10-25T02:30+01:00", "r5 of Sun 2026-10-25 02:30:00 +01:00"},
		{"Europe/Berlin", "2026-10-25", "r5 of Sun 2026-10-25 02:30:00 +01:00"},
		{"Europe/Berlin", "2026-10-26", "r6 of Mon 2026-10-26 00:30:00 +01:00"},
		{"UTC", "2026-10-25", "r6 of Sun 2026-10-25 23:30:00 +00:00"},
		{"UTC", "2026-03-29 00:59", "r2 of Sun 2026-03-29 00:30:00 +00:00"},
		{"America/New_York", "2026-03-28", "r3 of Sat 2026-03-28 21:00:05 -04:00"},
		{"Asia/Kolkata", "r4", "r4 of Sun 2026-10-25 06:00:00 +05:30"},
		{"Asia/Kolkata", "latest", "r6 of Mon 2026-10-26 05:00:00 +05:30"},
		{"UTC", "2026-03-28 22:29", "none: the oldest is r1 of Sat 2026-03-28 22:30:00 +00:00"},
		{"UTC", "28.3.2026", "refused: write for example 2026-11-20"},
		{"UTC", "", "refused: write for example 2026-11-20"},
		{"UTC", "last monday", "refused: write for example 2026-11-20"},
		{"UTC", "2026-3-28", "refused: YEAR-MONTH-DAY"},
		{"UTC", "r4; rm -rf /", "refused: no such form"},
		{"UTC", "2026-03-28\x00", "refused: "},
	} {
		if strings.ContainsRune(c.date, 0) { // no argument of a program has one
			b.refused(2, "YEAR-MONTH-DAY", "restore", c.date, "f", t.TempDir())
			continue
		}
		to := filepath.Join(t.TempDir(), "f")
		status, _, said := b.program("TZ="+c.zone, "", "restore", c.date, "f", to)
		content, _ := os.ReadFile(to)
		what, words, found := strings.Cut(c.want, ": ")
		switch {
		case !found:
			if run, _, _ := strings.Cut(c.want[1:], " "); status != 0 || said != "restore point "+c.want+"\n" || string(content) != run {
				t.Errorf("%s %q: status %d, %q, contents %q, want %s", c.zone, c.date, status, said, content, c.want)
			}
		case status != map[string]int{"refused": 2, "none": 1}[what] || !strings.Contains(said, words) || content != nil:
			t.Errorf("%s %q: status %d, %q, contents %q, want it %s", c.zone, c.date, status, said, content, c.want)
		}
	}
}
