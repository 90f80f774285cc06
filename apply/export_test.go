package apply

// SetSmallPlan sets smallPlan until the end of a test.
func SetSmallPlan(t interface{ Cleanup(func()) }, n int) {
	was := smallPlan
	smallPlan = n
	t.Cleanup(func() { smallPlan = was })
}

// SetMinPatched sets minPatched until the end of a test.
func SetMinPatched(t interface{ Cleanup(func()) }, n int64) {
	was := minPatched
	minPatched = n
	t.Cleanup(func() { minPatched = was })
}

// SetSmallBatch has a first copy mark what it did after so many files, until the end of a test.
func SetSmallBatch(t interface{ Cleanup(func()) }, files int64) {
	was := defaultBatchFiles
	defaultBatchFiles = files
	t.Cleanup(func() { defaultBatchFiles = was })
}
