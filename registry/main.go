// Registry is the stock CNCF distribution registry v3.1.2 as one binary, made to
// run beside Portbook's indexer.
//
// It promises to be that registry and nothing else: the library's own main with
// a choice of drivers, and no code of ours in the path of a request. What the
// indexer needs, it gets by configuration: see the files in config and
// doc/registry.md. Any other build of distribution v3.1.2 or later does as well.
//
//	registry serve config/filesystem.yml
//	registry garbage-collect --dry-run config/filesystem.yml
//
// Settings come from the file and from REGISTRY_* variables, which win. The
// indexer is told of events by the first endpoint of the file; these two
// variables are its address and its token:
//
//	REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL=http://127.0.0.1:8080/events
//	REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS={Authorization: ["Bearer the-token"]}
//
// Configurations written for upstream's binary work unchanged, but for the auth
// method silly, which lets in everybody who sends any Authorization header.
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

	// Upstream's main has them. They add less than 1 MB to a binary of 78, and a
	// configuration that names one does not start without it. The pull-through
	// cache is not in this list, as registry/handlers links it in any case.
	_ "github.com/distribution/distribution/v3/registry/storage/driver/middleware/cloudfront"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/middleware/redirect"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/middleware/rewrite"
)

func main() {
	if err := quietTracing(); err != nil {
		os.Stderr.WriteString("registry: " + err.Error() + "\n")
		os.Exit(1)
	}
	// A command that fails prints why and exits by itself. This is for a command
	// that does not exist, which upstream lets pass with status 0.
	if err := registry.RootCmd.Execute(); err != nil {
		os.Exit(1)
	}
}

// quietTracing turns OpenTelemetry's exporter off unless the environment names
// one. The library's default is to send traces to https://localhost:4318 and to
// log an error every 5 s if nobody listens there (distribution issue 4270).
func quietTracing() error {
	const key = "OTEL_TRACES_EXPORTER"
	if _, set := os.LookupEnv(key); set {
		return nil
	}
	return os.Setenv(key, "none")
}
