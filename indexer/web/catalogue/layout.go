package catalogue

import (
	"bytes"
	"encoding/json"
)

// layOut indents JSON and reports whether the result is cut. JSON that is too large or
// too deep to indent, and text that is not JSON, stays unindented.
func layOut(body []byte) (string, bool) {
	var b bytes.Buffer
	if len(body) <= maxRaw && depth(body) <= maxDepth && json.Indent(&b, body, "", "  ") == nil {
		return b.String(), false
	}
	return string(body[:min(len(body), maxRaw)]), len(body) > maxRaw
}

// depth returns how deep the brackets of JSON nest. Brackets in strings count too, so
// the result may be too high.
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
