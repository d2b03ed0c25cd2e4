package postgres

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/schema/schematest"
)

// A view is one state that cannot be written to, and a statement that takes too
// long in it is ended and told from a database that is away.
func TestViewIsBounded(t *testing.T) {
	t.Parallel()
	s := New(schematest.New(t))
	ctx := t.Context()
	err := s.View(ctx, func(v *View) error {
		var settings [3]string
		const q = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('statement_timeout')"
		if err := v.tx.QueryRow(ctx, q).Scan(&settings[0], &settings[1], &settings[2]); err != nil {
			return err
		}
		if diff := cmp.Diff([3]string{"repeatable read", "on", "5s"}, settings); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if _, err := v.tx.Exec(ctx, "SET LOCAL statement_timeout = 20"); err != nil {
			return err
		}
		_, err := v.tx.Exec(ctx, "SELECT pg_sleep(10)")
		return wrap("sleep", err)
	})
	if !errors.Is(err, indexer.ErrTooSlow) || !errors.Is(err, indexer.ErrUnavailable) {
		t.Errorf("a slow statement gave %v", err)
	}
	if _, err := s.pool.Exec(ctx, "SELECT 1"); err != nil {
		t.Errorf("the connection is lost: %v", err)
	}
}
