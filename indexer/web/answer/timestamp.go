package answer

import "time"

// A Timestamp is a time in an answer: RFC 3339, UTC, left out if it is unknown.
type Timestamp struct{ time.Time }

// MarshalJSON writes RFC 3339 in UTC.
func (t Timestamp) MarshalJSON() ([]byte, error) { return t.UTC().MarshalJSON() }
