package access

import "time"

// SetClock makes d read the time from a clock of a test, which must not run at the same time as
// calls of d.
func SetClock(d *Delegate, now func() time.Time) { d.now = now }

// The limits of a Delegate.
const (
	DelegateAge  = delegateAge
	DelegateTime = delegateTime
	MaxProjects  = maxProjects
	CallsAtOnce  = callsAtOnce
)
