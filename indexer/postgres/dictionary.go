package postgres

import (
	"context"
	"sync"

	"github.com/portbook/portbook/indexer"
)

// A dictionary remembers the numbers of media types and platforms. They are
// written before the transaction that uses them, each in one of its own, so that
// a number remembered is a number that exists; one that nothing uses is
// harmless, and they are never deleted.
type dictionary struct {
	mediaTypes sync.Map // string -> int32
	platforms  sync.Map // indexer.Platform -> int32
}

// mediaType gives the number of a media type or artifact type, nil for "".
func (s *Store) mediaType(ctx context.Context, name string) (*int32, error) {
	if name == "" {
		return nil, nil
	}
	const q = `
		WITH new AS (INSERT INTO media_type (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id)
		SELECT id FROM new UNION ALL SELECT id FROM media_type WHERE name = $1 LIMIT 1`
	return s.number(ctx, &s.dict.mediaTypes, name, q, name)
}

// platform gives the number of a platform, nil for the zero one.
func (s *Store) platform(ctx context.Context, p indexer.Platform) (*int32, error) {
	if p == (indexer.Platform{}) {
		return nil, nil
	}
	const q = `
		WITH new AS (INSERT INTO platform (os, architecture, variant) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING id)
		SELECT id FROM new UNION ALL
		SELECT id FROM platform WHERE (os, architecture, variant) = ($1, $2, $3) LIMIT 1`
	return s.number(ctx, &s.dict.platforms, p, q, p.OS, p.Architecture, p.Variant)
}

func (s *Store) number(ctx context.Context, known *sync.Map, key any, query string, args ...any) (*int32, error) {
	if n, ok := known.Load(key); ok {
		number := n.(int32)
		return &number, nil
	}
	var number int32
	// Twice: if another writer inserts the same at the same moment, the first
	// statement sees neither its own row nor the other's.
	err := s.pool.QueryRow(ctx, query, args...).Scan(&number)
	if err != nil {
		err = s.pool.QueryRow(ctx, query, args...).Scan(&number)
	}
	if err != nil {
		return nil, wrap("dictionary", err)
	}
	known.Store(key, number)
	return &number, nil
}
