package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/output"
)

// progressBar shows how far a first copy is: files, bytes, rate and time left. It appears with the first news.
type progressBar struct {
	w   io.Writer
	job string
	bar *progressbar.ProgressBar
}

// show tells the news. What is in use on the source's filesystem is the most there can be, so the time left is the most
// too.
func (p *progressBar) show(now job.Progress) {
	if p.bar == nil {
		total := now.Total
		if total == 0 {
			total = -1 // a spinner
		}
		p.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(p.w), progressbar.OptionShowBytes(true), progressbar.OptionUseANSICodes(false),
			progressbar.OptionSetWidth(20), progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetPredictTime(total > 0), progressbar.OptionSetElapsedTime(true), progressbar.OptionFullWidth())
	}
	p.bar.Describe(fmt.Sprintf("%s: %s files, %s", p.job, output.Count(now.Files), output.Size(now.Bytes)))
	bytes := now.Bytes
	if now.Total > 0 {
		bytes = min(bytes, now.Total-1) // the end is said by close
	}
	p.bar.Set64(bytes)
}

// close takes the bar away.
func (p *progressBar) close() {
	if p.bar != nil {
		p.bar.Finish()
		p.bar.Exit()
	}
}
