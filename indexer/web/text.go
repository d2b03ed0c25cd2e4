package web

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
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

// oneLine gives s as one line that is safe to print: docker and podman print
// what we send as it is, so that an escape sequence in a description would
// reach the terminal. White space becomes a space, other control and direction
// characters go, and what is longer than max runes is cut.
func oneLine(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), isBidi(r):
			return -1
		}
		return r // of an invalid byte, U+FFFD
	}, s)
	return cut(strings.TrimSpace(s), max)
}

// cut gives the first max runes of s, with a mark if that is not all.
func cut(s string, max int) string {
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

// harmless gives a text in which what cannot be seen, but acts, is written out:
// control characters as their pictures, others by number. Line breaks and tabs
// stay. It is for a finished page, of which no part of ours holds such.
func harmless(page []byte) []byte {
	out := make([]byte, 0, len(page))
	for len(page) > 0 {
		r, size := utf8.DecodeRune(page)
		switch {
		case r == '\r':
		case r == '\n', r == '\t':
			out = append(out, byte(r))
		case r < ' ':
			out = utf8.AppendRune(out, 0x2400+r) // Control Pictures
		case r == 0x7F:
			out = utf8.AppendRune(out, 0x2421)
		case unicode.IsControl(r), isBidi(r), r == 0x2028, r == 0x2029:
			out = fmt.Appendf(out, "‹U+%04X›", r)
		default:
			out = utf8.AppendRune(out, r) // of an invalid byte, U+FFFD
		}
		page = page[size:]
	}
	return out
}
