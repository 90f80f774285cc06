package inodefeed

// xfsFeatures are the ways to make an XFS that differ in how inodes lie on it.
var xfsFeatures = []feature{
	{"default", nil},
	{"inodes of 1024", []string{"-i", "size=1024"}},
	{"inodes of 2048", []string{"-i", "size=2048"}},
	{"blocks of 1024", []string{"-b", "size=1024"}},
	{"no reflink, no bigtime", []string{"-m", "reflink=0,bigtime=0,inobtcount=0"}},
	{"no finobt", []string{"-m", "finobt=0,inobtcount=0"}},
	{"rmapbt", []string{"-m", "rmapbt=1"}},
	{"no sparse inodes", []string{"-i", "sparse=0"}},
	{"nrext64", []string{"-i", "nrext64=1"}},
	{"many groups", []string{"-d", "agcount=7"}},
	{"sectors of 4096", []string{"-s", "size=4096"}},
}
