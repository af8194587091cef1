package console

import (
	"fmt"
	"math"
	"time"
)

// plot is a drawing of stretches of time: one column for each, 10 wide, in a field 100 high. The page stretches the field
// to its width; words and numbers stand beside it as text, where they keep their size.
type plot struct {
	Width   int
	Columns []column
	Top     []string    // labels of the vertical axis, from the top
	Times   []time.Time // labels of the horizontal one
	Lines   []float64   // heights of the grid
	Figures []figure
	Summary string
	Empty   bool
}

// column is what is drawn for one stretch of time.
type column struct {
	X     int
	Parts []block
	Title string
}

type block struct {
	Y, Height float64
	Class     string
}

// figure is one line of the table beside a plot.
type figure struct {
	Time  time.Time
	Cells []string
}

const columnWidth = 10

func newPlot(from time.Time, length time.Duration, n int) plot {
	p := plot{Width: n * columnWidth, Empty: true, Lines: []float64{0, 50, 100}}
	const labels = 5
	for i := range labels {
		p.Times = append(p.Times, from.Add(time.Duration(i)*length*time.Duration(n)/(labels-1)))
	}
	return p
}

// requestPlot draws requests by how they were answered, one upon the other.
func requestPlot(from time.Time, length time.Duration, list []tally) plot {
	p := newPlot(from, length, len(list))
	top, all := 0, tally{}
	for i := range list {
		top = max(top, list[i].requests())
		all.add(&list[i])
	}
	scale := roundUp(float64(top))
	p.Top = []string{amount(scale), amount(scale / 2), "0"}
	p.Summary = fmt.Sprintf("%s: %s done, %s refused, %s failed; at most %s in %s", plural(all.requests(), "request"), count(all.Done), count(all.Refused), count(all.Failed), count(top), span(length))
	for i := range list {
		t := &list[i]
		if t.requests() == 0 {
			continue
		}
		p.Empty = false
		at := from.Add(time.Duration(i) * length)
		one := column{X: i * columnWidth, Title: fmt.Sprintf("%s UTC, %s: %d done, %d refused, %d failed", at.UTC().Format("15:04:05"), span(length), t.Done, t.Refused, t.Failed)}
		y := 100.0
		for _, b := range []struct {
			n     int
			class string
		}{{t.Done, "done"}, {t.Refused, "refused"}, {t.Failed, "failed"}} {
			if b.n > 0 {
				height := max(float64(b.n)/scale*100, 1)
				y -= height
				one.Parts = append(one.Parts, block{max(y, 0), height, b.class})
			}
		}
		p.Columns = append(p.Columns, one)
		p.Figures = append(p.Figures, figure{at, []string{count(t.Done), count(t.Refused), count(t.Failed)}})
	}
	return p
}

// latencyPlot draws how long the upstream took: from the median up to what 95 of 100 attempts did not exceed.
func latencyPlot(from time.Time, length time.Duration, list []tally) plot {
	p := newPlot(from, length, len(list))
	top := 0.0
	for i := range list {
		top = max(top, list[i].latency.quantile(.95))
	}
	scale := roundUp(top)
	p.Top = []string{milliseconds(scale), milliseconds(scale / 2), "0"}
	for i := range list {
		t := &list[i]
		if t.Calls == 0 {
			continue
		}
		p.Empty = false
		at := from.Add(time.Duration(i) * length)
		half, most := t.latency.quantile(.5), t.latency.quantile(.95)
		one := column{X: i * columnWidth, Title: fmt.Sprintf("%s UTC, %s: %s, half of them within %s, 95 %% within %s", at.UTC().Format("15:04:05"), span(length), plural(t.Calls, "call"), milliseconds(half), milliseconds(most))}
		y := 100 - most/scale*100
		one.Parts = []block{{y, max((most-half)/scale*100, 1), "most"}, {100 - half/scale*100, half / scale * 100, "half"}}
		p.Columns = append(p.Columns, one)
		p.Figures = append(p.Figures, figure{at, []string{count(t.Calls), milliseconds(half), milliseconds(most)}})
	}
	p.Summary = "Upstream latency; the slowest stretch had 95 % of its calls within " + milliseconds(top)
	return p
}

// roundUp is the next of 1, 2, 4, 10, 20, 40, 100, ...: each has a half that reads well.
func roundUp(v float64) float64 {
	if v <= 2 {
		return 2
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 4, 6, 8, 10} {
		if v <= step*power {
			return step * power
		}
	}
	return 10 * power
}

func amount(v float64) string { return count(int(v)) }
