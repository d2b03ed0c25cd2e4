// Registry is the stock CNCF distribution registry v3.1.2 as one binary, to run
// beside Portbook's indexer.
//
// It is the library's own command with a choice of drivers, and has no code of ours
// in the path of a request. Configuration alone adapts it to the indexer: see the
// files in config and doc/registry.md. Any other build of distribution v3.1.2 or
// later works too.
//
//	registry serve config/filesystem.yml
//	registry garbage-collect --dry-run config/filesystem.yml
//	registry sweep config/filesystem.yml
//	registry copy --from config/filesystem.yml config/s3.yml
//
// The last two commands are ours. Package sweep looks at the storage beside a running
// registry, and frees what nothing uses if the indexer says so. Package copier copies
// the content of one storage to another.
//
// Settings come from the file and from REGISTRY_* variables, which override the
// file. The first endpoint of the file sends events to the indexer. These two
// variables set its address and its token:
//
//	REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL=http://127.0.0.1:8080/events
//	REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS={Authorization: ["Bearer the-token"]}
//
// Configurations for upstream's binary work unchanged, except for the auth method
// silly, which accepts any Authorization header and is not linked in.
package main

import (
	_ "net/http/pprof" // on the debug listener, which is off unless configured
	"os"

	"github.com/distribution/distribution/v3/registry"

	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/auth/token"

	_ "github.com/distribution/distribution/v3/registry/storage/driver/azure"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/gcs"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"

	// Upstream's binary has these too, and a configuration that names one does not
	// start without it. They add less than 1 MB to a binary of 78 MB. The
	// pull-through cache needs no import here: registry/handlers imports it.
	_ "github.com/distribution/distribution/v3/registry/storage/driver/middleware/cloudfront"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/middleware/redirect"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/middleware/rewrite"

	"github.com/portbook/portbook/registry/copier"
	"github.com/portbook/portbook/registry/sweep"
)

func main() {
	if err := quietTracing(); err != nil {
		os.Stderr.WriteString("registry: " + err.Error() + "\n")
		os.Exit(1)
	}
	registry.RootCmd.AddCommand(sweep.Command(), copier.Command())
	// A command that fails prints the reason and exits. Execute returns an error for
	// an unknown command, for which upstream's main exits with status 0.
	if err := registry.RootCmd.Execute(); err != nil {
		os.Exit(1)
	}
}

// quietTracing turns OpenTelemetry's exporter off unless the environment names
// one. By default the library sends traces to https://localhost:4318 and logs an
// error every 5 s if nothing listens there (distribution issue 4270).
func quietTracing() error {
	const key = "OTEL_TRACES_EXPORTER"
	if _, set := os.LookupEnv(key); set {
		return nil
	}
	return os.Setenv(key, "none")
}
