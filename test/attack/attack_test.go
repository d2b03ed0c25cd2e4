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
var long = flag.Bool("long", false, "measure each attack for 15 s, each after 10 s of quiet, where 3 s are enough to see facts")

// An attack is one thing that somebody may do to everybody else.
type attack struct {
	name string
	// plant pushes what the attack needs before the indexer starts; nil: nothing.
	plant func(ctx context.Context, s *site) error
	// run attacks until ctx ends. What it learns that must not be so it tells f.
	run func(ctx context.Context, s *site, f *felt)
	// after looks at what is left of it; nil: nothing.
	after func(ctx context.Context, s *site, f *felt)
	// end looks at what is left of it after all other attacks; nil: nothing.
	end func(ctx context.Context, s *site, f *felt)
}

// A family is attacks that share a quiet phase, with which they are compared.
type family struct {
	name    string
	attacks []attack
}

// families are all attacks. Those that leave work behind come last.
var families = []family{
	{"requests that cost", costlyRequests},
	{"requests that stay", lastingRequests},
	{"what passes through", passing},
	{"odd content", oddContent},
	{"a registry that fails", failingRegistry},
	{"large image indexes", largeIndexes},
}

// No push and no request may break anything for others.
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

// measure runs what an attacker does for a time while the victims go on, and
// waits until all of them have their answers.
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
