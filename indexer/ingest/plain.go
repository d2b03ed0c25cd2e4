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
	// maxDepth is how deep JSON may nest that we keep: 100. Postgres reads jsonb
	// by recursion and ends with an error below some thousands; an image config
	// nests 5 deep.
	maxDepth = 100
	// maxNumber is the most bytes of a number, and maxExponent its largest
	// exponent, that stay a number. jsonb takes 131,072 digits before the point
	// and 16,383 after (PostgreSQL 15, 8.1.2); whoever reads JSON takes fewer.
	maxNumber   = 400
	maxExponent = 308
)

var errTooDeep = errors.New("it nests more than " + strconv.Itoa(maxDepth) + " deep")

// plainJSON writes JSON anew so that jsonb takes it: without NUL and lone
// surrogates in strings, and with numbers that are too large as strings. Of
// keys that come twice the last stays, as in jsonb. It returns an error for
// what is no JSON or nests too deep.
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
		return nil, errors.New("more follows the first value")
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

// isPlain reports whether JSON can stay as it is, which nearly every config can:
// no escape that could be a NUL or half a surrogate, no depth, no large number.
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

// endOfString gives the closing quote of the string that begins at i.
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

// isModest reports whether a number is one that jsonb takes.
func isModest(number string) bool {
	_, exponent, has := strings.Cut(strings.ToLower(number), "e")
	if !has {
		return len(number) <= maxNumber
	}
	n, err := strconv.Atoi(exponent)
	return err == nil && len(number) <= maxNumber && n >= -maxExponent && n <= maxExponent
}
