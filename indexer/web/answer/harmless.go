package answer

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Harmless replaces invisible characters that have an effect: control characters by
// their pictures, others by their number. Line breaks and tabs stay; carriage
// returns are removed. It is for a finished page, because our own text has no such
// characters.
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
			out = utf8.AppendRune(out, r) // U+FFFD for an invalid byte
		}
		page = page[size:]
	}
	return out
}
