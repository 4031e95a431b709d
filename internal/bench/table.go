package bench

import (
	"fmt"
	"io"
)

// Table writes the medians, in Markdown. The ratio is to the first system at
// the same load: the median of the ratios of the rounds, each of which has run
// under about the same conditions.
func Table(w io.Writer, rows []Row) {
	fmt.Fprintln(w, "| size | sessions | system | msg/s (least to most) | MB/s | p50 ms | p99 ms | CPU µs/msg | written/content | ratio |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|")
	var base Row
	for _, r := range rows {
		if len(r.Runs) == 0 {
			continue
		}
		ratio := ""
		if r.Cell != base.Cell {
			base = r
		} else {
			ratio = fmt.Sprintf("%.2f", Ratio(r, base))
		}
		rate := r.Median(Run.Rate)
		low, high := rate, rate
		errors := 0
		for _, run := range r.Runs {
			low, high = min(low, run.Rate()), max(high, run.Rate())
			errors += run.Errors
		}
		if errors > 0 {
			ratio += fmt.Sprintf(" (%d errors)", errors)
		}
		fmt.Fprintf(w, "| %s | %d | %s | %.0f (%.0f to %.0f) | %.1f | %.1f | %.1f | %.0f | %.2f | %s |\n", sizeText(r.Cell.Size), r.Cell.Sessions,
			r.System, rate, low, high, rate*float64(r.Cell.Size)/1e6,
			r.Median(func(x Run) float64 { return ms(x.Percentile(50)) }), r.Median(func(x Run) float64 { return ms(x.Percentile(99)) }),
			r.Median(func(x Run) float64 { return float64(x.CPU.Microseconds()) }), r.Median(func(x Run) float64 { return x.Written }), ratio)
	}
}

// Ratio of the rates of two rows, round by round.
func Ratio(r, base Row) float64 {
	var all []float64
	for i := range min(len(r.Runs), len(base.Runs)) {
		if b := base.Runs[i].Rate(); b > 0 {
			all = append(all, r.Runs[i].Rate()/b)
		}
	}
	return median(all)
}
