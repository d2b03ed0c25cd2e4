package retention

import (
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// day is a day of 24 hours, as in the configuration.
	day = 24 * time.Hour
	// maxDuration is the longest time that a condition looks back: 100 years, more than any
	// registry is old. It keeps sums of times in range.
	maxDuration = 36500 * day
)

// ParseDuration parses a duration of a condition, such as 90d, 12h or 1h30m: a day has 24
// hours. It returns ErrInvalid for anything else, and for less than a second.
func ParseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		n, wrong := strconv.ParseUint(days, 10, 16)
		d, err = time.Duration(n)*day, wrong
	}
	if err != nil || d < time.Second || d > maxDuration {
		return 0, indexer.Invalid("%.64q is not a duration: write a number with a unit, such as 90d, 12h or 30m, from a"+
			" second to 36500d", text)
	}
	return d.Truncate(time.Second), nil
}

// FormatDuration returns the text that ParseDuration parses; "" for 0.
func FormatDuration(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d%day == 0:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	return strings.Replace(text, "h0m", "h", 1)
}
