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
keep = { last = 7, hourly = 48, daily = 14 }
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
	if home.Snapshots != "/pool/snaps" || home.OnLostBase != LostBaseStop || home.MaxDeleted != (Limit{Count: 500}) || *home.Keep != (Keep{Last: 7, Hourly: 48, Daily: 14}) || home.SnapshotSize != 35 {
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
		"keep":               {job + "keep = { dayly = 3 }\n", `f.toml:4: unknown key "jobs.a.keep.dayly"`, `did you mean "daily"? Known here: last, `},
		"keep, near":         {job + "keep = { hourley = 5 }\n", `f.toml:4: unknown key "jobs.a.keep.hourley"`, `did you mean "hourly"? Known here: last, hourly, daily`},
		"keeps less":         {job + "keep = { hourly = -1 }\n", "f.toml:4: [jobs.a] keep: a count is below 0", ""},
		"keep, far":          {job + "keep = {\n  last = 1,\n  minutes = 5 }\n", `f.toml:6: unknown key "jobs.a.keep.minutes"`, "known here: last, "},
		"keep, dotted":       {job + "keep.minutes = 5\n", `f.toml:4: unknown key "jobs.a.keep.minutes"`, "known here: last, "},
		"hooks":              {job + "hooks = { after_rum = [\"/x\"] }\n", `f.toml:4: unknown key "jobs.a.hooks.after_rum"`, `"after_run"? Known here: before_snapshot, `},
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

// What is of another type than it should be is said in the words of the file, with what should be there.
func TestWrongTypes(t *testing.T) {
	const job = "[jobs.a]\nsource = \"/s\"\nstore = \"/t\"\n"
	for text, want := range map[string]string{
		job + "keep = 7":                                     `4: [jobs.a] keep = 7: a table is needed: keep = { last = 7, daily = 14 }`,
		job + "keep = []":                                    `4: [jobs.a] keep = []: a table is needed: keep = {`,
		job + "keep.last = \"7\"":                            `4: [jobs.a] keep.last = "7": a whole number is needed: last = 7`,
		job + "keep = { last = \"7\" }":                      `4: [jobs.a] keep.last = "7": a whole number is needed: last = 7`,
		job + "[jobs.a.keep]\ndaily = 1.5":                   `5: [jobs.a] keep.daily = 1.5: a whole number is needed: daily = 14`,
		job + "exclude = \"*.tmp\"":                          `4: [jobs.a] exclude = "*.tmp": a list is needed: exclude = ["*.tmp"]`,
		job + "exclude = [\n\"a\",\n1 ]":                     `6: [jobs.a] exclude = [ ...: a list is needed: exclude = ["*.tmp"]`,
		job + "[jobs.a.exclude]\nx = 1":                      `4: [jobs.a] exclude: a list is needed: exclude = [`,
		job + "verify_writes = \"yes\"":                      `4: [jobs.a] verify_writes = "yes": true or false is needed`,
		job + "max_pinned = 5 # days":                        `4: [jobs.a] max_pinned = 5: a text in quotes is needed: max_pinned = "14d"`,
		job + "max_deleted = [ 1 ]":                          `4: [jobs.a] max_deleted = [1]: a percentage ("25%")`,
		job + "workers = \"many\"":                           `4: [jobs.a] workers = "many": a whole number is needed: workers = 4`,
		job + "hooks = 1":                                    `4: [jobs.a] hooks = 1: a table is needed: hooks = { after_run = [`,
		job + "\"hooks\".after_run = \"/x\"":                 `4: [jobs.a.hooks] after_run = "/x": a list is needed: after_run = ["/`,
		job + "[jobs.a.hooks]\n\nbefore_snapshot = \"/x=y\"": `6: [jobs.a.hooks] before_snapshot = "/x=y": a list is needed: before_snapshot = ["/`,
		job + "[log]\nto = 1":                                `5: [log] to = 1: a text in quotes is needed: to = "journal"`,
		job + "[[jobs.b]]":                                   `4: jobs.b: a table is needed: [jobs.mail]`,
		job + "[jobs]\nb = 1":                                `5: jobs.b = 1: a table is needed: [jobs.mail]`,
		"jobs = 1":                                           `1: jobs = 1: a table is needed: [jobs.mail]`,
		"[jobs.a]\nSource = 17":                              `2: [jobs.a] Source = 17: a text in quotes is needed: source = "/srv/mail"`,
	} {
		_, err := Parse("f.toml", []byte(text+"\n"))
		if err == nil || !strings.HasPrefix(err.Error(), "configuration f.toml:"+want) || strings.Contains(err.Error(), "config.") {
			t.Errorf("%s\nsays %v\nwant %s", text, err, want)
		}
	}
}

// What is wrong is said with the line that it stands in, in whatever form of TOML it is written.
func TestLines(t *testing.T) {
	const job = "[jobs.a]\nsource = \"/s\"\nstore = \"/t\"\n"
	for text, want := range map[string]string{
		job + "[jobs.a.hooks]\nafter_run = [\"/x\"]\non_failure = [\"true\"]":      `6: [jobs.a.hooks] on_failure = ["true"]: the program needs`,
		job + "[jobs.a.hooks]\nbefore_snapshot = [\n  \"true\",\n  \"x\" ]":        `5: [jobs.a.hooks] before_snapshot = ["true", ...]: the program`,
		job + "[jobs.a.hooks]\ntimeout = \"soon\"":                                 `5: [jobs.a.hooks] timeout = "soon"`,
		job + "hooks.timeout = \"soon\"":                                           `4: [jobs.a.hooks] timeout = "soon"`,
		"# x\njobs.a.source = \"/s\"\njobs.a.store = \"t\"":                        `3: [jobs.a] store = "t"`,
		"[jobs]\na = { source = \"/s\", store = \"/t\",\n nice = 99 }":             `3: [jobs.a] nice = 99`,
		"[jobs.\"a.b\"]\nsource = \"/s\"\nstore = \"t\"":                           `3: [jobs.a.b] store = "t"`,
		"[jobs.a.keep]\nlast = 1\n[jobs.a]\nstore = \"/t\"":                        `3: [jobs.a] has no source`,
		"[jobs.a.keep]\nlast = 1":                                                  `1: [jobs.a] has no source`,
		job + "exclude = \"\"\"\nstore = \"\"\"\n[jobs.b]\nsource = \"/s\"":        `4: [jobs.a] exclude = `,
		"[jobs.x.hooks]\ntimeout = \"1s\"\n" + job + "hooks = { timeout = \"x\" }": `6: [jobs.a.hooks] timeout = "x"`,
	} {
		if _, err := Parse("f.toml", []byte(text+"\n")); err == nil || !strings.HasPrefix(err.Error(), "configuration f.toml:"+want) {
			t.Errorf("%s\nsays %v\nwant %s", text, err, want)
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
