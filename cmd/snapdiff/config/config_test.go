package config

import (
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	c, err := Parse("f.toml", []byte(`
[jobs.mail]
source = "/srv/mail/"
store = "/backup/mail"
[jobs.home]
source = "/home"
store = "/backup/home"
snapshots = "/pool/snaps"
catalog = "/var/lib/snapdiff/home.db"
on_lost_base = "stop"
snapshot_size = "35%"
max_deleted = 500
max_changed = "40%"
ransomware = "off"
max_pinned = "200GB"
keep = { last = 7, daily = 14 }
`))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.Names(), " "); got != "home mail" {
		t.Errorf("jobs: %s", got)
	}
	mail, _ := c.Job("mail")
	if mail.Source != "/srv/mail" || mail.Snapshots != "/srv/mail/.snapdiff" || mail.OnLostBase != LostBaseFull || mail.MaxDeleted != DefaultLimit || mail.SnapshotSize != 20 {
		t.Errorf("defaults: %+v", mail)
	}
	home, _ := c.Job("home")
	if home.Snapshots != "/pool/snaps" || home.OnLostBase != LostBaseStop || home.MaxDeleted != (Limit{Count: 500}) || home.Keep.Daily != 14 || home.SnapshotSize != 35 {
		t.Errorf("settings: %+v", home)
	}
	if mail.MaxChanged != NoLimit || mail.Ransomware != RansomwareHold || mail.MaxPinned != (Pinned{}) ||
		home.MaxChanged.Percent != 40 || home.Ransomware != RansomwareOff || home.MaxPinned != (Pinned{Bytes: 200e9}) {
		t.Errorf("gate: %+v\n%+v", mail, home)
	}
}

func TestMistakesAreNamedWithTheirLine(t *testing.T) {
	const job = "[jobs.a]\nsource = \"/s\"\nstore = \"/t\"\n"
	for name, c := range map[string]struct{ text, want, next string }{
		"misspelt key":       {job + "on_lost_bsae = \"stop\"\n", `f.toml:4: unknown key "jobs.a.on_lost_bsae"`, `"on_lost_base"`},
		"unknown key":        {job + "zzzzzz = 1\n", `f.toml:4: unknown key "jobs.a.zzzzzz"`, "known here: source"},
		"misspelt table":     {"[job.a]\nsource = \"/s\"\n", `f.toml:1: unknown key "job.a"`, `"jobs"`},
		"keep":               {job + "keep = { dayly = 3 }\n", `f.toml:4: unknown key "jobs.a.`, `"daily"`},
		"wrong type":         {"[jobs.a]\nsource = 1\n", "f.toml:2: ", ""},
		"syntax":             {"[jobs.a\n", "f.toml:1: ", ""},
		"no source":          {"[jobs.a]\nstore = \"/t\"\n", "f.toml:1: [jobs.a] has no source", ""},
		"relative":           {"[jobs.a]\nsource = \"./s\"\nstore = \"/t\"\n", "f.toml:2: [jobs.a] source = \"./s\": an absolute path", ""},
		"lost base":          {job + "on_lost_base = \"ask\"\n", "f.toml:4: [jobs.a] on_lost_base", ""},
		"percent":            {job + "max_deleted = \"120%\"\n", "f.toml:4: [jobs.a] max_deleted", ""},
		"snapshot size":      {job + "snapshot_size = \"0%\"\n", `f.toml:4: [jobs.a] snapshot_size = "0%"`, ""},
		"negative":           {job + "max_deleted = -1\n", "f.toml:4: [jobs.a] max_deleted", ""},
		"changed":            {job + "max_changed = \"x\"\n", "f.toml:4: [jobs.a] max_changed", ""},
		"ransomware":         {job + "ransomware = \"on\"\n", `f.toml:4: [jobs.a] ransomware = "on"`, ""},
		"pinned":             {job + "max_pinned = \"14 days\"\n", `f.toml:4: [jobs.a] max_pinned = "14 days"`, ""},
		"keeps nothing":      {job + "keep = {}\n", "f.toml:4: [jobs.a] keep would keep nothing", ""},
		"like a run":         {"[jobs.r17]\nsource = \"/s\"\nstore = \"/t\"\n", "f.toml:1: [jobs.r17] looks like the id of a run", ""},
		"bad name":           {"[jobs.\"a b\"]\nsource = \"/s\"\nstore = \"/t\"\n", "f.toml:1: [jobs.a b] is not a name", ""},
		"two with one store": {job + "[jobs.b]\nsource = \"/q\"\nstore = \"/t/\"\n", "f.toml:6: [jobs.b] has the store of [jobs.a]", "of its own"},
		"of a neighbour":     {job + "bwlimt = \"1M\"\n", `f.toml:4: unknown key "jobs.a.bwlimt"`, `"bwlimit"`},
		"log format":         {job + "[log]\nformat = \"xml\"\n", `f.toml:5: [log] format = "xml"`, ""},
		"log to":             {job + "[log]\nto = \"log\"\n", `f.toml:5: [log] to = "log": it is "journal"`, ""},
		"log key":            {job + "[log]\nfromat = \"json\"\n", `f.toml:5: unknown key "log.fromat"`, `"format"`},
		"log table":          {job + "[logs]\n", `f.toml:4: unknown key "logs"`, `"log"`},
		"no job":             {"", "f.toml: has no job", "[jobs.mail]"},
	} {
		_, err := Parse("f.toml", []byte(c.text))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || !strings.Contains(e.Next, c.next) {
			t.Errorf("%s: got %v (%+v), want %q and the hint %q", name, err, e, c.want, c.next)
		}
	}
}

func TestLimit(t *testing.T) {
	for _, c := range []struct {
		limit          any
		deleted, files int64
		exceeded       bool
	}{
		{"25%", 250, 1000, false}, {"25%", 251, 1000, true}, {"25%", 999, 999, false},
		{int64(10), 10, 20, false}, {int64(10), 11, 20, true}, {int64(0), 1, 20, true},
		{"100%", 5000, 5000, false}, {"12.5%", 126, 1000, true}, {"500", 501, 600, true},
	} {
		l, err := parseLimit("max_deleted", c.limit)
		if err != nil || l.Exceeded(c.deleted, c.files) != c.exceeded {
			t.Errorf("%v with %d of %d: %v, want exceeded=%v (%v)", c.limit, c.deleted, c.files, l, c.exceeded, err)
		}
	}
}
