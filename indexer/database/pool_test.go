package database_test

import "testing"

// Together the pools must not open more connections than the configuration allows, and
// requests of readers must not take those of pushes.
func TestOpenPools(t *testing.T) {
	t.Parallel()
	const url = "postgres://u:p@h/d?sslmode=disable"
	for _, test := range []struct {
		role, open   string
		ingest, read int32 // read is 0 if there is one pool
	}{
		{"writer", "25", 10, 15},
		{"writer", "3", 2, 1},
		{"writer", "4", 2, 2},
		{"writer", "2", 2, 0},
		{"reader", "25", 25, 0},
		{"writer", "262143", 1 << 15, 1 << 15}, // more than PostgreSQL allows in practice
	} {
		cs, _ := parse(t, url, "PORTBOOK_ROLE="+test.role, "PORTBOOK_DATABASE_MAXOPENCONNS="+test.open, "PORTBOOK_DATABASE_MAXIDLECONNS=1")
		pools, err := cs.OpenPools(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer pools.Close()
		read, count := pools.Read.Config().MaxConns, 2
		if pools.Read == pools.Ingest {
			read, count = 0, 1
		}
		if got := pools.Ingest.Config().MaxConns; got != test.ingest || read != test.read {
			t.Errorf("%s with %s connections: %d and %d, want %d and %d", test.role, test.open, got, read, test.ingest, test.read)
		}
		if len(pools.KeepIdle) != count {
			t.Errorf("%s with %s connections: %d functions close idle ones, want %d", test.role, test.open, len(pools.KeepIdle), count)
		}
	}
}
