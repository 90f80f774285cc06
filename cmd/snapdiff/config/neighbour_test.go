package config

import (
	"strings"
	"testing"
)

func TestParseBwLimit(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1024, "20000": 20000 << 10, "20M": 20 << 20, "1.5m": 3 << 19, "800KB": 800_000, "2KiB": 2048, "1g": 1 << 30,
		"1GB": 1_000_000_000, "512B": 512, ".5": 512, "1t": 1 << 40,
	} {
		if got, err := ParseBwLimit(text); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "x", "-1", "1x", "1kk", "1 M", "0.1", "511B", "1e9", "2000000t", "0x10"} {
		if got, err := ParseBwLimit(bad); err == nil {
			t.Errorf("%q is taken for %d", bad, got)
		}
	}
}

func TestNeighbour(t *testing.T) {
	const job = "[jobs.mail]\nsource = \"/srv/mail\"\nstore = \"/backup/mail\"\n"
	c, err := Parse("x", []byte(job+"workers = 3\nbwlimit = \"20M\"\nnice = -5\nionice = \"best-effort:7\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Jobs[0].Neighbour; n.Workers != 3 || n.BwLimit != 20<<20 || n.Nice == nil || *n.Nice != -5 || n.IONice == nil || *n.IONice != 2<<13|7 {
		t.Errorf("read as %+v", n)
	}
	c, err = Parse("x", []byte(job+"bwlimit = 1000\nionice = \"idle\""))
	if err != nil || c.Jobs[0].BwLimit != 1000<<10 || *c.Jobs[0].IONice != 3<<13 || c.Jobs[0].Nice != nil {
		t.Errorf("read as %+v, %v", c, err)
	}
	for line, says := range map[string]string{
		"workers = 0": "from 1 to 256", "nice = 20": "from -20 to 19", "bwlimit = \"much\"": "KiB in a second", "ionice = \"realtime\"": "best-effort:N",
		"ionice = \"best-effort:8\"": "best-effort:N", "ionice = \"idle:3\"": "best-effort:N", "bwlimit = true": "KiB in a second",
	} {
		if _, err := Parse("x", []byte(job+line)); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), ":4:") {
			t.Errorf("%s: %v", line, err)
		}
	}
}
