package access

import "time"

// A Rate allows some of a thing at once, and one more after each pause: the generic cell rate
// algorithm. What it remembers of a user is how long it takes until all may be used at once
// again; 0 for one who has used nothing.
type Rate struct {
	AtOnce int // at least 1
	Pause  time.Duration
}

// Writes is how often a user may change something: 12 times at once, and once a minute, as in
// pesde's registry server.
var Writes = Rate{12, time.Minute}

// Use returns what is remembered after one more use, and whether the rate allows that.
func (r Rate) Use(full time.Duration) (after time.Duration, allowed bool) {
	after = max(full, 0) + r.Pause
	return after, after <= time.Duration(r.AtOnce)*r.Pause
}

// Wait returns how long it takes until one more use is allowed.
func (r Rate) Wait(full time.Duration) time.Duration {
	return max(full-time.Duration(r.AtOnce-1)*r.Pause, 0)
}

// Left returns how many more uses are allowed now.
func (r Rate) Left(full time.Duration) int {
	used := (max(full, 0) + r.Pause - 1) / r.Pause
	return max(r.AtOnce-int(used), 0)
}
