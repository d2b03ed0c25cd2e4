package answer

import "time"

// A Timestamp is a time in an answer, in RFC 3339 and UTC. It is omitted if unknown.
type Timestamp struct{ time.Time }

// MarshalJSON writes t in RFC 3339 and UTC.
func (t Timestamp) MarshalJSON() ([]byte, error) { return t.UTC().MarshalJSON() }
