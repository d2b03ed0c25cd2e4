package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/portbook/portbook/indexer"
)

const (
	// maxDepth is the maximum nesting depth of JSON that we keep: 100. PostgreSQL
	// parses jsonb by recursion and fails at a depth of some thousands; an image
	// config nests 5 deep.
	maxDepth = 100
	// A number of more than maxNumber bytes, or with an exponent larger than
	// maxExponent, is stored as a string. jsonb accepts 131,072 digits before the
	// point and 16,383 after it (PostgreSQL 15, 8.1.2); JSON parsers accept fewer.
	maxNumber   = 400
	maxExponent = 308
)

var errTooDeep = errors.New("nested more than " + strconv.Itoa(maxDepth) + " levels deep")

// plainJSON rewrites JSON so that jsonb accepts it: NUL and lone surrogates in strings
// are replaced, and numbers that are too large become strings. If a key occurs twice,
// the last value is kept, as in jsonb. It returns an error if body is not valid JSON or
// nests too deep.
func plainJSON(body []byte) ([]byte, error) {
	if isPlain(body) {
		return body, nil
	}
	values := json.NewDecoder(bytes.NewReader(body))
	values.UseNumber()
	var v any
	if err := values.Decode(&v); err != nil {
		return nil, err
	}
	if values.More() {
		return nil, errors.New("data after the first value")
	}
	v, err := plain(v, 0)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err = enc.Encode(v)
	return bytes.TrimSpace(out.Bytes()), err
}

// isPlain reports whether jsonb accepts the JSON without changes, as it does for nearly
// every config: there is no escape that could be a NUL or a lone surrogate, no deep
// nesting and no large number. It may return false for other JSON that jsonb accepts.
func isPlain(body []byte) bool {
	if !json.Valid(body) || bytes.Contains(body, []byte(`\u`)) {
		return false
	}
	depth, digits := 0, 0
	for i := 0; i < len(body); i++ {
		c := body[i]
		if c >= '0' && c <= '9' {
			digits++
			continue
		}
		if digits > maxNumber || digits > 0 && (c == 'e' || c == 'E') || depth > maxDepth {
			return false
		}
		digits = 0
		switch c {
		case '"':
			i = endOfString(body, i)
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
	}
	return digits <= maxNumber
}

// endOfString returns the index of the closing quote of the string that begins at i.
func endOfString(body []byte, i int) int {
	for i++; i < len(body) && body[i] != '"'; i++ {
		if body[i] == '\\' {
			i++
		}
	}
	return i
}

func plain(v any, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	switch v := v.(type) {
	case string:
		return indexer.CleanText(v), nil
	case json.Number:
		if !isModest(v.String()) {
			return v.String(), nil
		}
	case []any:
		for i := range v {
			p, err := plain(v[i], depth+1)
			if err != nil {
				return nil, err
			}
			v[i] = p
		}
	case map[string]any:
		kept := make(map[string]any, len(v))
		for k, value := range v {
			p, err := plain(value, depth+1)
			if err != nil {
				return nil, err
			}
			kept[indexer.CleanText(k)] = p
		}
		return kept, nil
	}
	return v, nil
}

// isModest reports whether a number is within maxNumber and maxExponent.
func isModest(number string) bool {
	_, exponent, has := strings.Cut(strings.ToLower(number), "e")
	if !has {
		return len(number) <= maxNumber
	}
	n, err := strconv.Atoi(exponent)
	return err == nil && len(number) <= maxNumber && n >= -maxExponent && n <= maxExponent
}
