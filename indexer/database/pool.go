package database

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/postgres"
)

// A share has the maximum numbers of open and of idle connections of a pool.
type share struct{ open, idle int }

// shares splits the connections between ingestion and readers' requests, which must
// not delay pushes. A reader, and a writer with only 2 connections, have one pool for
// both: then read is zero.
//
// Ingestion gets two fifths, and at least 2 because the leader keeps one: 10 of 25
// connections are enough for several hundred pushes a second.
func shares(c config.Config) (ingest, read share) {
	all := share{c.Database.MaxOpenConns, c.Database.MaxIdleConns}
	if c.Role == config.Reader || all.open < 3 {
		return all, share{}
	}
	ingest.open = max(2*all.open/5, 2)
	ingest.idle = min(all.idle-all.idle/2, ingest.open)
	return ingest, share{all.open - ingest.open, min(all.idle-ingest.idle, all.open-ingest.open)}
}

// Pools are the connections of a process.
type Pools struct {
	// Ingest is the pool of ingestion and of every command.
	Ingest *pgxpool.Pool
	// Read is the pool of readers' requests: Ingest, or a pool of its own.
	Read *pgxpool.Pool
	// ReadConns is the maximum number of connections that Read opens.
	ReadConns int
	// KeepIdle are functions that close unneeded idle connections of the pools. Each
	// runs until its context ends.
	KeepIdle []func(context.Context) error
}

// OpenPools opens the pools of a process. It does not connect yet.
func (cs *Connections) OpenPools(ctx context.Context) (*Pools, error) {
	ingest, read := shares(cs.config)
	p := &Pools{ReadConns: ingest.open}
	var err error
	if p.Ingest, err = cs.openPool(ctx, p, ingest); err != nil {
		return nil, err
	}
	p.Read = p.Ingest
	if read.open == 0 {
		return p, nil
	}
	p.ReadConns = read.open
	if p.Read, err = cs.openPool(ctx, p, read); err != nil {
		p.Ingest.Close()
		return nil, err
	}
	return p, nil
}

func (cs *Connections) openPool(ctx context.Context, p *Pools, s share) (*pgxpool.Pool, error) {
	sized := cs.pool.Copy()
	sized.MaxConns = int32(min(s.open, 1<<15)) // more than Postgres allows in practice
	pool, keepIdle, err := postgres.OpenPool(ctx, sized, s.idle)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	p.KeepIdle = append(p.KeepIdle, keepIdle)
	return pool, nil
}

// Close closes the pools, and waits until their connections are returned.
func (p *Pools) Close() {
	p.Ingest.Close()
	if p.Read != p.Ingest {
		p.Read.Close()
	}
}
