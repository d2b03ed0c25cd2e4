package answer

import (
	"strings"
	"unicode"

	"github.com/opencontainers/go-digest"
)

// isBidi reports whether r changes the direction of the text around it, which can
// make one name look like another (Unicode TR9, explicit formatting and implicit
// marks).
func isBidi(r rune) bool {
	switch {
	case r == 0x061C, r == 0x200E, r == 0x200F:
		return true
	case r >= 0x202A && r <= 0x202E, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return false
}

// OneLine returns s as one line that is safe to print. docker and podman print our
// text unchanged, so an escape sequence in a description would reach the terminal.
// White space becomes a space, other control and direction characters are removed,
// and the result is cut to max runes.
func OneLine(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), isBidi(r):
			return -1
		}
		return r // U+FFFD for an invalid byte
	}, s)
	return Cut(strings.TrimSpace(s), max)
}

// Cut returns the first max runes of s, with "…" after them if s is longer.
func Cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	n := 0
	for i := range s {
		if n == max {
			return s[:i] + "…"
		}
		n++
	}
	return s
}

// MaxValue is the maximum number of runes of one value on a page: 2,000. Some labels
// hold whole documents; the config has the rest.
const MaxValue = 2000

// Short returns the first 12 hex digits of a digest, as docker does.
func Short(d digest.Digest) string {
	_, hex, found := strings.Cut(d.String(), ":")
	if !found || len(hex) < 12 {
		return d.String()
	}
	return hex[:12]
}
