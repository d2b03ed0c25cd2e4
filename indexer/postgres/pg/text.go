package pg

import (
	"encoding/json"

	"github.com/portbook/portbook/indexer"
)

// Separator separates the elements of a list that is stored or sent as one text,
// because unnest does not accept arrays of unequal length. It is the ASCII unit
// separator.
const Separator = "\x1f"

// StringsJSON returns a map as a JSON object, nil for an empty map.
func StringsJSON(m map[string]string) *string {
	if len(m) == 0 {
		return nil
	}
	b, err := json.Marshal(m)
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
		return nil // not written by us; the row is shown without it
	}
	return m
}

// Cleaned returns each text of a client's question as a text that Postgres accepts: see
// indexer.CleanText.
func Cleaned(texts []string) []string {
	all := make([]string, len(texts))
	for i, t := range texts {
		all[i] = indexer.CleanText(t)
	}
	return all
}
