package catalogue

import (
	"bytes"
	"encoding/json"
)

// layOut gives JSON indented, and whether it is cut. What is too large or too
// deep to indent, or is no JSON, stays as it is.
func layOut(body []byte) (string, bool) {
	var b bytes.Buffer
	if len(body) <= maxRaw && depth(body) <= maxDepth && json.Indent(&b, body, "", "  ") == nil {
		return b.String(), false
	}
	return string(body[:min(len(body), maxRaw)]), len(body) > maxRaw
}

// depth is how deep the brackets of JSON nest; those in strings count too, which
// only makes it more.
func depth(body []byte) (deepest int) {
	open := 0
	for _, c := range body {
		switch c {
		case '{', '[':
			open++
			deepest = max(deepest, open)
		case '}', ']':
			open--
		}
	}
	return deepest
}
