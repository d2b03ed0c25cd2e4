package retention

import (
	"time"

	"github.com/portbook/portbook/indexer/access"
)

// Words are conditions as clients write them: durations are texts.
type Words struct {
	Conditions
	PushedWithin, PulledWithin, OlderThan string
}

// Rule returns the rule that a client wants, or ErrInvalid.
func (w Words) Rule(pattern, action, note string) (r Rule, err error) {
	r = Rule{Action: Action(action), Conditions: w.Conditions, Note: note}
	if r.Pattern, err = access.ParsePattern(pattern); err != nil {
		return r, err
	}
	for _, d := range []struct {
		text string
		to   *time.Duration
	}{
		{w.PushedWithin, &r.Conditions.PushedWithin}, {w.PulledWithin, &r.Conditions.PulledWithin},
		{w.OlderThan, &r.Conditions.OlderThan},
	} {
		if d.text != "" {
			if *d.to, err = ParseDuration(d.text); err != nil {
				return r, err
			}
		}
	}
	return r, r.Check()
}
