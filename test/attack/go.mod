module github.com/portbook/portbook/test/attack

go 1.26.0

replace (
	github.com/portbook/portbook/indexer => ../../indexer
	github.com/portbook/portbook/registry => ../../registry
	github.com/portbook/portbook/schema => ../../schema
	github.com/portbook/portbook/test/bench => ../bench
)

require (
	github.com/jackc/pgx/v5 v5.13.0
	github.com/opencontainers/go-digest v1.0.0
	github.com/opencontainers/image-spec v1.1.1
	github.com/portbook/portbook/registry v0.0.0
	github.com/portbook/portbook/schema v0.0.0
	github.com/portbook/portbook/test/bench v0.0.0-00010101000000-000000000000
	golang.org/x/sync v0.25.0
)

require (
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
