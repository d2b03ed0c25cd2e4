package main

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer/config"
)

// poolConfig also serves migrations, by its ConnConfig.
func poolConfig(d config.Database) (*pgxpool.Config, error) {
	pc, err := pgxpool.ParseConfig(d.ConnString())
	if err != nil {
		// pgx's text quotes the string, with any password in it.
		return nil, errors.New("database.postgres.url cannot be understood as a PostgreSQL connection string: write it as postgres://user:password@host:port/database")
	}
	pc.MaxConns = int32(min(d.MaxOpenConns, 1<<15)) // the configuration allows no more than Postgres does
	pc.MaxConnLifetime = d.ConnMaxLifetime
	pc.ConnConfig.RuntimeParams["application_name"] = userAgent
	return pc, nil
}

// connConfig is how migrations connect.
func (p *parts) connConfig() *pgx.ConnConfig { return p.pool.Config().ConnConfig }
