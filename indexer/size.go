package indexer

import (
	"math"
	"strconv"
	"strings"
)

// byteUnits are the units of sizes: powers of 1000, and with an "i" of 1024
// (IEC 80000-13).
var byteUnits = map[string]float64{
	"": 1, "b": 1,
	"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

// ParseSize parses a number of bytes with a unit, such as 500MB or 1.5GiB. It returns
// +Inf for what is larger than a float, and false for what is no size.
func ParseSize(text string) (bytes float64, ok bool) {
	unit := strings.TrimLeft(text, "0123456789.")
	factor, known := byteUnits[strings.ToLower(unit)]
	n, err := strconv.ParseFloat(strings.TrimSuffix(text, unit), 64)
	return n * factor, known && (err == nil || math.IsInf(n, 1))
}
