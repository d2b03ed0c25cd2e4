package answer

import (
	"bytes"
	"compress/gzip"
	"strconv"
	"strings"
	"sync"
)

// TakesGzip reads Accept-Encoding, RFC 9110, 12.5.3. A star is not taken up:
// nobody who means gzip says so.
func TakesGzip(fields []string) bool {
	for member := range strings.SplitSeq(strings.Join(fields, ","), ",") {
		coding, weight, _ := strings.Cut(member, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		_, q, found := strings.Cut(weight, "=")
		if !found {
			return true
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
		return err == nil && v > 0
	}
	return false
}

// Gzips are writers to be used again: a new one is some 800 KB.
var Gzips = sync.Pool{New: func() any {
	// Speed over size: on JSON of images the best level saves a few percent
	// more and takes several times as long.
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // errs on a bad level only
	return z
}}

// compressed gives b by gzip. The same bytes give the same bytes.
func compressed(b []byte) (out bytes.Buffer) {
	z := Gzips.Get().(*gzip.Writer)
	defer Gzips.Put(z)
	z.Reset(&out)
	_, _ = z.Write(b) // a Buffer takes all
	_ = z.Close()
	return out
}
