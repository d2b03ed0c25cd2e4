package pg

import "time"

// TimeOrNull returns a time as stored: nil for the zero one, and for one that
// Postgres cannot hold (an image may claim to be made in the year 292277026596).
func TimeOrNull(t time.Time) *time.Time {
	if t.IsZero() || t.Year() < -4000 || t.Year() > 9999 {
		return nil
	}
	return &t
}

// TimeOrZero is the reverse of TimeOrNull.
func TimeOrZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
