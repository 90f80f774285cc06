package apply

// SetSmallPlan sets smallPlan until the end of a test.
func SetSmallPlan(t interface{ Cleanup(func()) }, n int) {
	was := smallPlan
	smallPlan = n
	t.Cleanup(func() { smallPlan = was })
}
