package attack

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/portbook/portbook/schema/localpg"
)

// long makes phases long enough for a report: go test -v -args -long
var long = flag.Bool("long", false, "measure each attack for 15 s, after 10 s without, instead of 3 s")

// An attack is one thing that a user may do to all others.
type attack struct {
	name string
	// plant pushes what the attack needs before the indexer starts; nil: nothing.
	plant func(ctx context.Context, s *site) error
	// run attacks until ctx ends. It reports to f what must not happen.
	run func(ctx context.Context, s *site, f *felt)
	// after checks the state right after the attack; nil: no check.
	after func(ctx context.Context, s *site, f *felt)
	// end checks the state after all attacks; nil: no check.
	end func(ctx context.Context, s *site, f *felt)
}

// A family is a group of attacks that are compared with the same quiet phase.
type family struct {
	name    string
	attacks []attack
}

// families are all attacks. Those that leave work for later are last.
var families = []family{
	{"costly requests", costlyRequests},
	{"lasting requests", lastingRequests},
	{"requests passed to the registry", passing},
	{"odd content", oddContent},
	{"failing registry", failingRegistry},
	{"large image indexes", largeIndexes},
}

// No push and no request may harm other users.
func TestAttacks(t *testing.T) {
	if _, err := localpg.Find(); errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	s := newSite(t)
	var all report
	var attacks []attack // those that were run
	for _, group := range families {
		t.Run(group.name, func(t *testing.T) {
			quiet := s.measure(t, "(quiet)", s.quiet, func(context.Context, *site, *felt) {})
			for _, a := range group.attacks {
				t.Run(a.name, func(t *testing.T) {
					attacks = append(attacks, a)
					f := s.measure(t, a.name, s.attacked, a.run)
					if a.after != nil {
						a.after(t.Context(), s, f)
					}
					f.settled = s.settle(t)
					all = append(all, line{quiet, f})
					f.judge(t)
				})
			}
		})
	}
	fmt.Print(all)
	for _, a := range attacks {
		if a.end != nil {
			f := &felt{name: a.name}
			a.end(t.Context(), s, f)
			f.judge(t)
		}
	}
	s.verify(t)
}

// measure runs an attack for d while the victims work, and waits until all of them have
// their answers.
func (s *site) measure(t *testing.T, name string, d time.Duration, run func(context.Context, *site, *felt)) *felt {
	t.Helper()
	f := &felt{name: name}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	stop := s.watchMemory(f)
	wait := s.startVictims(ctx, t.Context(), f)
	run(ctx, s, f)
	<-ctx.Done()
	s.faults.heal()
	wait()
	stop()
	return f
}
