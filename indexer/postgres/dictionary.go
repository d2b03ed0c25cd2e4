package postgres

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer"
)

// A dictionary remembers the numbers of media types and platforms. They are
// written before the transaction that uses them, each in one of its own, so that
// a number remembered is a number that exists; one that nothing uses is
// harmless, and they are never deleted.
//
// That holds for one cluster: after a failover a number may be lost, and mean
// something else when it is given again. Each cluster has a dictionary of its
// own, and a transaction takes numbers of its own cluster alone.
type dictionary struct {
	cluster    cluster
	mediaTypes sync.Map // string -> int32
	platforms  sync.Map // indexer.Platform -> int32
}

// dictionaryOf gives the dictionary of a cluster, an empty one if the last was
// of another.
func (s *Store) dictionaryOf(c cluster) *dictionary {
	for {
		d := s.dict.Load()
		if d != nil && d.cluster == c {
			return d
		}
		s.dict.CompareAndSwap(d, &dictionary{cluster: c})
	}
}

// learnTries is how often numbers are looked up for one transaction: twice where
// the process has just begun or the database has failed over. More means that
// two servers take our writes at the same time.
const learnTries = 4

// learn runs f with numbers for the manifests of findings, in a transaction of
// the cluster that they are of.
func (s *Store) learn(ctx context.Context, findings []indexer.Finding, f func(pgx.Tx, cluster, []manifestRow) error) error {
	for range learnTries {
		before := s.dict.Load()
		manifests, err := s.manifestRows(ctx, findings)
		if err != nil {
			return err
		}
		// Every number came from the dictionary of before if that is still the one.
		d := s.dict.Load()
		again := false
		err = s.beginPartitioned(ctx, func(tx pgx.Tx, c cluster) error {
			if again = s.dictionaryOf(c) != d || d != before && len(manifests) > 0; again {
				return nil
			}
			return f(tx, c, manifests)
		})
		if err != nil || !again {
			return err
		}
	}
	return fmt.Errorf("connections lead to different servers: %w", indexer.ErrUnavailable)
}

// mediaType gives the number of a media type or artifact type, nil for "".
func (s *Store) mediaType(ctx context.Context, name string) (*int32, error) {
	if name == "" {
		return nil, nil
	}
	const q = `
		WITH new AS (INSERT INTO media_type (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id)
		SELECT id FROM new UNION ALL SELECT id FROM media_type WHERE name = $1 LIMIT 1`
	return s.number(ctx, func(d *dictionary) *sync.Map { return &d.mediaTypes }, name, q, name)
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
	return s.number(ctx, func(d *dictionary) *sync.Map { return &d.platforms }, p, q, p.OS, p.Architecture, p.Variant)
}

func (s *Store) number(ctx context.Context, of func(*dictionary) *sync.Map, key any, query string, args ...any) (*int32, error) {
	if d := s.dict.Load(); d != nil {
		if n, ok := of(d).Load(key); ok {
			number := n.(int32)
			return &number, nil
		}
	}
	var number int32
	err := s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		c, err := s.clusterOf(ctx, conn.Conn())
		if err != nil {
			return err
		}
		// Twice: if another writer inserts the same at the same moment, the first
		// statement sees neither its own row nor the other's.
		err = conn.QueryRow(ctx, query, args...).Scan(&number)
		if err != nil {
			err = conn.QueryRow(ctx, query, args...).Scan(&number)
		}
		if err == nil {
			of(s.dictionaryOf(c)).Store(key, number)
		}
		return err
	})
	if err != nil {
		return nil, wrap("dictionary", err)
	}
	return &number, nil
}
