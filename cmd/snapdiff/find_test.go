package main

import (
	"strings"
	"testing"
)

func TestFindCommand(t *testing.T) {
	b := newJobBench(t, "")
	b.write("anna/report.txt", "anna/deep/report.doc", ".report", "re\nport")
	b.snapdiff(0, "init")
	b.snapdiff(0, "run")
	for _, script := range []string{"rm anna/report.txt; echo new > reporter", "mv anna bert", "echo > bert/report.txt; rm 're\nport'"} {
		b.sh("cd $S; " + script)
		b.silent("run")
	}
	for _, c := range []struct{ args, want string }{
		{"*report*", "r1 now .report\nr1 r2 anna/deep/report.doc\nr3 now bert/deep/report.doc\nr4 now bert/report.txt\nr2 now reporter\nr1 r1 anna/report.txt\n"},
		{"--deleted *report*", "r1 r2 anna/deep/report.doc\nr1 r1 anna/report.txt\n"},
		{"--deleted ????", "r1 r2 anna/deep/\nr1 r2 anna/\n"},
		{"--deleted re?port", "r1 r3 re\\nport\n"},
		{b.source + "/bert/*.*", "r3 now bert/deep/report.doc\nr4 now bert/report.txt\n"},
		{"nothing", ""},
	} {
		if got := strings.ReplaceAll(columns(b.stdout(0, append([]string{"find"}, strings.Split(c.args, " ")...)...), 0, 2, 4), " \n", "\n"); got != c.want {
			t.Errorf("find %s:\n%swant:\n%s", c.args, got, c.want)
		}
	}
	if got := b.stdout(0, "find", "-0", "--deleted", "re*"); got != "anna/deep/report.doc\x00re\nport\x00anna/report.txt\x00" {
		t.Errorf("-0: %q", got)
	}
	if got := b.stdout(0, "find", "--json", "reporter"); !strings.HasPrefix(got, `{"path":"reporter","type":"file","from":"r2","from_date":"20`) || !strings.HasSuffix(got, `"still":true}`+"\n") {
		t.Errorf("JSON: %s", got)
	}
	b.refused(2, "exclude each other", "find", "-0", "--json", "x")
}
