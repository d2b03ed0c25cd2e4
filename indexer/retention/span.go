package retention

import "time"

// A Span is when something happened, as far as it is known: at From or later, and at To or
// earlier. A zero From means any time before To. If both are equal, the time is known.
type Span struct{ From, To time.Time }

// At returns the span of a known time.
func At(t time.Time) Span { return Span{t, t} }

// Until returns the span of what happened at an unknown time until t, or never.
func Until(t time.Time) Span { return Span{To: t} }

// A truth is whether a condition holds, as far as it is known.
type truth int8

const (
	no truth = iota
	maybe
	yes
)

// since reports whether s is at or after a time.
func (s Span) since(t time.Time) truth {
	switch {
	case !s.From.IsZero() && !s.From.Before(t):
		return yes
	case s.To.Before(t):
		return no
	}
	return maybe
}

// before reports whether s is before a time.
func (s Span) before(t time.Time) truth { return yes - s.since(t) }
