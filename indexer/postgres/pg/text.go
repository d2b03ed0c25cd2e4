package pg

import (
	"encoding/json"

	"github.com/portbook/portbook/indexer"
)

// Separator separates the parts of a list that is stored or sent as one text:
// unnest takes no arrays of unequal length. It is US, the unit separator of ASCII.
const Separator = "\x1f"

// StringsJSON returns an object of strings as JSON that jsonb accepts, nil for an
// empty one.
func StringsJSON(m map[string]string) *string {
	if len(m) == 0 {
		return nil
	}
	cleaned := make(map[string]string, len(m))
	for k, v := range m {
		cleaned[indexer.CleanText(k)] = indexer.CleanText(v)
	}
	b, err := json.Marshal(cleaned)
	if err != nil {
		panic(err) // strings always marshal
	}
	s := string(b)
	return &s
}

// StringsFrom is the reverse of StringsJSON. It returns nil for any other JSON.
func StringsFrom(raw []byte) map[string]string {
	if len(raw) == 0 {
		return nil
	}
	var m map[string]string
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil // not written by us; the row shows without it
	}
	return m
}

// Cleaned returns texts as they are stored.
func Cleaned(texts []string) []string {
	all := make([]string, len(texts))
	for i, t := range texts {
		all[i] = indexer.CleanText(t)
	}
	return all
}
