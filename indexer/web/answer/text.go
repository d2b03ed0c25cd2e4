package answer

import (
	"strings"
	"unicode"

	"github.com/opencontainers/go-digest"
)

// isBidi reports whether r changes the direction of the text around it, by
// which a name can be made to look like another (Unicode TR9, explicit
// formatting and implicit marks).
func isBidi(r rune) bool {
	switch {
	case r == 0x061C, r == 0x200E, r == 0x200F:
		return true
	case r >= 0x202A && r <= 0x202E, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return false
}

// OneLine gives s as one line that is safe to print: docker and podman print
// what we send as it is, so that an escape sequence in a description would
// reach the terminal. White space becomes a space, other control and direction
// characters go, and what is longer than max runes is cut.
func OneLine(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), isBidi(r):
			return -1
		}
		return r // of an invalid byte, U+FFFD
	}, s)
	return Cut(strings.TrimSpace(s), max)
}

// Cut gives the first max runes of s, with a mark if that is not all.
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

// Short gives the beginning of a digest, as docker does.
func Short(d digest.Digest) string {
	_, hex, found := strings.Cut(d.String(), ":")
	if !found || len(hex) < 12 {
		return d.String()
	}
	return hex[:12]
}
