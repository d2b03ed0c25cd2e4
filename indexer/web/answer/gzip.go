package answer

import (
	"bytes"
	"compress/gzip"
	"strconv"
	"strings"
	"sync"
)

// TakesGzip reports whether Accept-Encoding allows gzip (RFC 9110, 12.5.3). It
// ignores "*", which no client sends to mean gzip.
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

// Gzips is a pool of gzip writers: a new one takes about 800 KB.
var Gzips = sync.Pool{New: func() any {
	// BestSpeed, because for JSON of images the best level saves a few percent more and
	// takes several times as long.
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails only for an invalid level
	return z
}}

// compressed returns b compressed by gzip. Equal input has equal output.
func compressed(b []byte) (out bytes.Buffer) {
	z := Gzips.Get().(*gzip.Writer)
	defer Gzips.Put(z)
	z.Reset(&out)
	_, _ = z.Write(b) // a Buffer never fails
	_ = z.Close()
	return out
}
