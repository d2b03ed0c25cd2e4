module github.com/portbook/portbook/test/browser

go 1.26.0

replace (
	github.com/portbook/portbook/deploy => ../../deploy
	github.com/portbook/portbook/registry => ../../registry
	github.com/portbook/portbook/schema => ../../schema
)

require (
	github.com/chromedp/cdproto v0.159.0
	github.com/chromedp/chromedp v0.23.0
	github.com/opencontainers/go-digest v1.0.0
	github.com/opencontainers/image-spec v1.1.1
	github.com/portbook/portbook/deploy v0.0.0-00010101000000-000000000000
	github.com/portbook/portbook/registry v0.0.0-00010101000000-000000000000
	github.com/portbook/portbook/schema v0.0.0-00010101000000-000000000000
)

require (
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/pgx/v5 v5.12.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
