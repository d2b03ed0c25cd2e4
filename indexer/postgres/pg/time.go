package pg

import "time"

// TimeOrNull returns the stored form of a time: nil for the zero time and for times
// that Postgres cannot store (an image may claim the year 292277026596).
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
