package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// plot draws one bar for each row, grouped by what was measured, as SVG. The scale is logarithmic: from a hundredth of a second to many
// minutes.
func plot(rows []row) []byte {
	const left, width, bar, gap, low = 250, 480, 15, 4, 0.01
	high := 1.0
	for _, r := range rows {
		high = max(high, r.seconds)
	}
	high = math.Pow(10, math.Ceil(math.Log10(high)))
	at := func(seconds float64) float64 {
		return left + width*math.Log10(max(seconds, low)/low)/math.Log10(high/low)
	}
	var body bytes.Buffer
	y, what := 10, ""
	text := func(x float64, y int, class, s string) {
		fmt.Fprintf(&body, `<text x="%.0f" y="%d" class="%s">`, x, y, class)
		xml.EscapeText(&body, []byte(s)) // into memory: no error
		body.WriteString("</text>\n")
	}
	for _, r := range rows {
		if strings.Contains(r.who, ": ") { // a part of the floor
			continue
		}
		if r.what != what {
			what = r.what
			y += bar + gap
			text(10, y+bar, "what", what)
			y += bar + 2*gap
		}
		text(left-8, y+bar-3, "who", strings.ReplaceAll(r.who, `\|`, "|"))
		fmt.Fprintf(&body, `<rect x="%d" y="%d" width="%.1f" height="%d" class="%s"/>`+"\n", left, y, max(at(r.seconds)-left, 1), bar, colour(r.who))
		text(at(r.seconds)+5, y+bar-3, "value", fmt.Sprintf("%.2f s", r.seconds))
		y += bar + gap
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d">
<style>svg{background:#fff}text{font:12px sans-serif;fill:#222}.what{font-weight:bold}.who{text-anchor:end}.ours{fill:#1b7f5c}.floor{fill:#c8c8c8}.other{fill:#7d9fc9}line{stroke:#e4e4e4}.axis{fill:#777;text-anchor:middle}</style>
`, left+width+90, y+40)
	for s := low; s <= high*1.01; s *= 10 {
		x := at(s)
		fmt.Fprintf(&out, `<line x1="%.1f" y1="10" x2="%.1f" y2="%d"/><text x="%.1f" y="%d" class="axis">%g s</text>`+"\n", x, x, y+8, x, y+24, math.Round(s*100)/100)
	}
	out.Write(body.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

func colour(who string) string {
	switch who {
	case (&snapdiff{}).name():
		return "ours"
	case (&bare{}).name():
		return "floor"
	}
	return "other"
}
