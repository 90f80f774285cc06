package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"slices"
)

// plot draws one bar for each row, grouped by what was measured, as SVG. The scale is logarithmic: from a hundredth of a second to many
// minutes. Behind each bar is the time and how many times as long as the first of its group that is.
func plot(title string, rows []row) []byte {
	const left, width, right, bar, gap, low, top = 230, 500, 170, 15, 4, 0.1, 52
	high := 1.0
	for _, r := range rows {
		high = max(high, r.seconds)
	}
	high = math.Pow(10, math.Ceil(math.Log10(high)))
	at := func(seconds float64) float64 {
		return left + width*math.Log10(max(seconds, low)/low)/math.Log10(high/low)
	}
	var body bytes.Buffer
	text := func(x float64, y int, class, s string) {
		fmt.Fprintf(&body, `<text x="%.0f" y="%d" class="%s">`, x, y, class)
		xml.EscapeText(&body, []byte(s)) // into memory: no error
		body.WriteString("</text>\n")
	}
	text(10, 20, "title", title)
	text(left, 40, "note", "seconds, on a logarithmic scale, and how many times those of the first bar of the group; shorter is better")
	alone := !slices.ContainsFunc(rows, func(r row) bool { return r.who == (&snapdiff{}).name() })
	y, first := top, row{}
	for _, r := range rows {
		if r.what != first.what {
			first = r
			y += gap
			text(10, y+bar, "what", upper(r.what))
			y += bar + 2*gap
		}
		text(left-8, y+bar-3, "who", r.who)
		fmt.Fprintf(&body, `<rect x="%d" y="%d" width="%.1f" height="%d" class="%s"/>`+"\n", left, y, max(at(r.seconds)-left, 1), bar, colour(r.who, alone))
		value := fmt.Sprintf("%.2f s", r.seconds)
		if r.seconds >= 10 {
			value = fmt.Sprintf("%.0f s", r.seconds)
		}
		if r.who != first.who && first.seconds > 0 {
			value += ", " + times(r.seconds/first.seconds)
		}
		text(at(r.seconds)+5, y+bar-3, "value", value)
		y += bar + gap
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d">
<style>text{font:12px sans-serif;fill:#222}.title{font-size:14px;font-weight:bold}.what{font-weight:bold}.who{text-anchor:end}.ours{fill:#1b7f5c}.floor{fill:#b4b4b4}.other{fill:#7d9fc9}line{stroke:#e0e0e0}.axis{fill:#777;text-anchor:middle}.note{fill:#777}</style>
<rect width="100%%" height="100%%" fill="#fff"/>
`, left+width+right, y+36)
	for s := low; s <= high*1.01; s *= 10 {
		x := at(s)
		fmt.Fprintf(&out, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><text x="%.1f" y="%d" class="axis">%g s</text>`+"\n", x, top, x, y+4, x, y+20, math.Round(s*100)/100)
	}
	out.Write(body.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// times is a ratio in as few digits as say something.
func times(ratio float64) string {
	switch {
	case ratio < 1.995:
		return fmt.Sprintf("%.2f times", ratio)
	case ratio < 9.95:
		return fmt.Sprintf("%.1f times", ratio)
	}
	return fmt.Sprintf("%.0f times", ratio)
}

// colour is the class of a bar. alone: all of them are snapdiff's.
func colour(who string, alone bool) string {
	switch {
	case alone || who == (&snapdiff{}).name():
		return "ours"
	case who == (&bare{}).name():
		return "floor"
	}
	return "other"
}
