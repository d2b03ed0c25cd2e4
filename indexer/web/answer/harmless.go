package answer

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Harmless gives a text in which what cannot be seen, but acts, is written out:
// control characters as their pictures, others by number. Line breaks and tabs
// stay. It is for a finished page, of which no part of ours holds such.
func Harmless(page []byte) []byte {
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
