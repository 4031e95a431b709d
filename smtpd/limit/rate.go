package limit

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"mailraft/mail"
)

// Rate is so many in a time; all of them may come at once. The zero Rate is
// none: nothing is limited.
type Rate struct {
	Count int
	Per   time.Duration
}

// ParseRate reads "600/1m", "10/s" or "none".
func ParseRate(text string) (Rate, error) {
	if text == "none" {
		return Rate{}, nil
	}
	count, per, ok := strings.Cut(text, "/")
	n, err := strconv.Atoi(count)
	if !ok || err != nil || n < 1 || per == "" {
		return Rate{}, fmt.Errorf("%q is no rate such as 600/1m, and not none", text)
	}
	if per[0] < '0' || per[0] > '9' {
		per = "1" + per
	}
	d, err := mail.ParseDuration(per)
	if err != nil || d <= 0 {
		return Rate{}, fmt.Errorf("%q is no rate such as 600/1m: %q is no time", text, per)
	}
	return Rate{Count: n, Per: d}, nil
}

// None reports that nothing is limited.
func (r Rate) None() bool { return r.Count == 0 }
