package web

import "time"

// A timestamp is a time in an answer: RFC 3339, UTC, left out if it is unknown.
type timestamp struct{ time.Time }

func (t timestamp) MarshalJSON() ([]byte, error) { return t.UTC().MarshalJSON() }
