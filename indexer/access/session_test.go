package access_test

import (
	"errors"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/access"
)

// The sessions in memory are bounded: of an account the last hundred stay, and it cannot end
// those of others.
func TestMemorySessions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	m := access.NewMemorySessions()
	other, _, err := m.Begin(ctx, "bob", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var cookies []string
	for range access.MaxSessions + 2 {
		c, _, err := m.Begin(ctx, "alice", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		cookies = append(cookies, c)
	}
	for i, c := range cookies {
		s, err := m.Find(ctx, c)
		if ended := i < 2; ended != errors.Is(err, access.ErrDenied) || !ended && s.Actor != "alice" {
			t.Errorf("session %d of %d: %+v, %v", i, len(cookies), s, err)
		}
	}
	s, err := m.Find(ctx, other)
	if err != nil || s.Actor != "bob" {
		t.Fatalf("bob: %+v, %v", s, err)
	}
	for range 2 { // to end it twice is no mistake
		if err := m.End(ctx, s); err != nil {
			t.Error(err)
		}
	}
	if _, err := m.Find(ctx, other); !errors.Is(err, access.ErrDenied) {
		t.Errorf("bob, after the end: %v", err)
	}
}
