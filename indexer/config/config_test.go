package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/indexer/config"
)

// write writes text to a file portbook.yaml and returns its path.
func write(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "portbook.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// browser begins a file for sign-ins in the browser, in the section auth.
const browser = "registry: {public_url: 'https://h'}\nauth: {method: accounts, keys: k, "

// enough is an environment with all required settings.
var enough = []string{"PORTBOOK_REGISTRY_URL=http://registry:5000", "PGHOST=db"}

func TestDefaults(t *testing.T) {
	t.Parallel()
	got, err := config.Load(config.Source{Environ: enough})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Config{
		Role:     config.Writer,
		Registry: config.Registry{URL: "http://registry:5000", PublicURL: "http://registry:5000"},
		HTTP:     config.HTTP{Address: "127.0.0.1:8080", OperationsAddress: "127.0.0.1:8081"},
		Auth: config.Auth{
			Method: config.NoLogins, Issuer: "portbook", Service: "registry", GitHub: config.AuthGitHub{URL: "https://api.github.com"},
			OIDC: config.AuthOIDC{
				Title: "OpenID Connect", Scopes: []string{"openid", "profile"}, NameClaim: "preferred_username", GroupsClaim: "groups",
			},
			Sessions:    config.Sessions{Store: config.SignedSessions, Prefix: "portbook:"},
			GitHubLogin: config.AuthGitHubLogin{URL: "https://github.com", API: "https://api.github.com"},
		},
		Database: config.Database{
			SSLMode: "require", TargetSessionAttrs: "read-write", MaxOpenConns: 25, MaxIdleConns: 5, ConnMaxLifetime: 5 * time.Minute,
			MaxMetaSize: 262144, MigrationLockTimeout: 2 * time.Minute,
		},
		Interval:  config.Interval{FetchAll: time.Hour},
		Retention: config.Retention{Events: 90 * 24 * time.Hour, Usage: 400 * 24 * time.Hour},
		Collect: config.Collect{
			Look: 6 * time.Hour, Observe: 168 * time.Hour, Delay: 168 * time.Hour, Trash: 24 * time.Hour,
		},
		Manage: config.Manage{Trash: 30 * 24 * time.Hour},
		Plans:  config.Plans{Cap: 20},
		Packages: config.Packages{
			Prefix: "pesde/", CommitterName: "Portbook", CommitterEmail: "portbook@localhost",
		},
		Usage: config.Usage{Scanners: []string{
			"*trivy*", "*clair*", "*grype*", "*syft*", "*snyk*", "*anchore*", "*neuvector*",
		}},
		Scan:   config.Scan{Parallelism: 8},
		Search: config.Search{Memory: true, MemoryLimit: 1 << 30}, DataDir: "data",
		Storage: config.Storage{Cache: config.StorageCache{BlobDescriptor: "inmemory", BlobDescriptorSize: 200_000}},
		Log:     config.Log{Level: slog.LevelInfo, Format: "text", Access: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

// A configuration file of flagstate must load.
func TestFlagstate(t *testing.T) {
	t.Parallel()
	got, err := config.Load(config.Source{File: "testdata/flagstate.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	want, err := config.Load(config.Source{Environ: enough})
	if err != nil {
		t.Fatal(err)
	}
	want.Registry = config.Registry{URL: "https://registry.example.com", PublicURL: "/"}
	want.Components.WebUI = true
	want.Events.Token = "notify-me"
	want.Database.Postgres.URL = "postgres://flagstate:opensesame@db.example.com:5432/flagstate?sslmode=disable"
	want.Database.SSLMode = "disable" // from the URL
	want.Cache = config.Cache{MaxAgeIndex: 5 * time.Second, MaxAgeHTML: 5 * time.Second}
	want.Interval = config.Interval{FetchAll: time.Hour, GarbageCollect: 30 * time.Minute}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flagstate.yaml (-want +got):\n%s", diff)
	}
}

// The section database of the ToolHive registry server must load.
func TestToolHive(t *testing.T) {
	t.Parallel()
	got, err := config.Load(config.Source{Environ: enough, File: write(t, `
database:
  host: localhost
  port: 5432
  user: registry
  database: registry
  sslMode: verify-full
  maxOpenConns: 30
  maxIdleConns: 6
  connMaxLifetime: '10m'
  maxMetaSize: 1000
`)})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Database{
		Host: "localhost", Port: 5432, User: "registry", Database: "registry", SSLMode: "verify-full", TargetSessionAttrs: "read-write",
		MaxOpenConns: 30, MaxIdleConns: 6, ConnMaxLifetime: 10 * time.Minute, MaxMetaSize: 1000, MigrationLockTimeout: 2 * time.Minute,
	}
	if diff := cmp.Diff(want, got.Database); diff != "" {
		t.Errorf("database (-want +got):\n%s", diff)
	}
}

func sslMode(c config.Config) any { return c.Database.SSLMode }
func session(c config.Config) any { return c.Database.TargetSessionAttrs }

func TestValues(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		file    string
		environ []string
		flags   map[string]string
		of      func(config.Config) any
		want    any
	}{
		{"spelling", "REGISTRY: {publicURL: /x}", nil, nil, func(c config.Config) any { return c.Registry.PublicURL }, "/x"},
		{"dotted key", "registry.public_url: /x", nil, nil, func(c config.Config) any { return c.Registry.PublicURL }, "/x"},
		{"quoted bool", `components: {webUI: "true"}`, nil, nil, func(c config.Config) any { return c.Components.WebUI }, true},
		{"quoted number", `scan: {parallelism: "16"}`, nil, nil, func(c config.Config) any { return c.Scan.Parallelism }, 16},
		{"zero interval", "interval: {fetch_all: 0}", nil, nil, func(c config.Config) any { return c.Interval.FetchAll }, time.Duration(0)},
		{"level in capitals", "log: {level: DEBUG}", nil, nil, func(c config.Config) any { return c.Log.Level }, slog.LevelDebug},
		{"list", "search: {official_namespaces: [library, base]}", nil, nil, func(c config.Config) any { return c.Search.OfficialNamespaces }, []string{"library", "base"}},
		{"list by comma", "", []string{"PORTBOOK_SEARCH_OFFICIAL_NAMESPACES=library, base"}, nil, func(c config.Config) any { return c.Search.OfficialNamespaces }, []string{"library", "base"}},
		{"alias", "registry: {username: &u x, password: *u}", nil, nil, func(c config.Config) any { return c.Registry.Password }, "x"},
		{"pesde's token", "", []string{"ACCESS_TOKEN=t"}, nil, func(c config.Config) any { return c.Auth.Method }, config.OneToken},
		{"pesde's tokens", "", []string{"READ_ACCESS_TOKEN=r", "WRITE_ACCESS_TOKEN=w"}, nil, func(c config.Config) any { return c.Auth.Method }, config.TwoTokens},
		{"Sentry's variable", "", []string{"SENTRY_DSN=https://k@h/7"}, nil, func(c config.Config) any { return c.Errors.SentryDSN }, "https://k@h/7"},
		{"no reports", "", []string{"SENTRY_DSN="}, nil, func(c config.Config) any { return c.Errors.SentryDSN }, ""},
		{"pesde's order", "", []string{"ACCESS_TOKEN=t", "GITHUB_CLIENT_ID=i", "GITHUB_CLIENT_SECRET=s", "READ_ACCESS_TOKEN=r", "WRITE_ACCESS_TOKEN=w"}, nil, func(c config.Config) any { return c.Auth.Method }, config.OneToken},
		{"pesde's order without a token", "", []string{"GITHUB_CLIENT_ID=i", "GITHUB_CLIENT_SECRET=s", "READ_ACCESS_TOKEN=r", "WRITE_ACCESS_TOKEN=w"}, nil, func(c config.Config) any { return c.Auth.Method }, config.GitHubToken},
		{"a method that is set", "auth: {method: none}", []string{"ACCESS_TOKEN=t"}, nil, func(c config.Config) any { return c.Auth.Method }, config.NoLogins},
		{"nobody logs in on this machine", "http: {address: \"[::1]:80\"}", nil, nil, func(c config.Config) any { return c.Auth.Method }, config.NoLogins},
		{"nobody logs in, and that is meant", "http: {address: \":80\"}\nauth: {method: none}", nil, nil, func(c config.Config) any { return c.Auth.Method }, config.NoLogins},
		{"who logs in from other machines", "http: {address: \":80\"}", []string{"ACCESS_TOKEN=t"}, nil, func(c config.Config) any { return c.Auth.Method }, config.OneToken},
		{"reads need a login", "", []string{"ACCESS_TOKEN=t", "READ_NEEDS_AUTH="}, nil, func(c config.Config) any { return c.Auth.LoginToRead }, true},
		{"token like a number", "events: {token: 0123}", nil, nil, func(c config.Config) any { return c.Events.Token }, "0123"},
		{"token like a bool", "events: {token: yes}", nil, nil, func(c config.Config) any { return c.Events.Token }, "yes"},
		{"token with spaces", `events: {token: " x "}`, nil, nil, func(c config.Config) any { return c.Events.Token }, " x "},
		{"empty section", "http:\nlog:\n  level:\n", nil, nil, func(c config.Config) any { return c.HTTP.Address }, "127.0.0.1:8080"},
		{"any free ports", `http: {address: "127.0.0.1:0", operations_address: "127.0.0.1:0"}`, nil, nil, func(c config.Config) any { return c.HTTP.Address }, "127.0.0.1:0"},
		{"empty value", `log: {format: ""}`, nil, nil, func(c config.Config) any { return c.Log.Format }, "text"},
		{"only comments", "# nothing\n", nil, nil, func(c config.Config) any { return c.Role }, config.Writer},
		{"environment over file", "log: {format: text}", []string{"PORTBOOK_LOG_FORMAT=json"}, nil, func(c config.Config) any { return c.Log.Format }, "json"},
		{"flag over environment", "", []string{"PORTBOOK_LOG_FORMAT=text"}, map[string]string{"log-format": "json"}, func(c config.Config) any { return c.Log.Format }, "json"},
		{"empty variable", "log: {format: json}", []string{"PORTBOOK_LOG_FORMAT="}, nil, func(c config.Config) any { return c.Log.Format }, "json"},
		{"variable without underscores", "", []string{"PORTBOOK_REGISTRY_PUBLICURL=/x"}, nil, func(c config.Config) any { return c.Registry.PublicURL }, "/x"},
		{"variables that agree", "", []string{"PORTBOOK_SCAN_PARALLELISM=3", "PORTBOOK_SCAN__PARALLELISM=3"}, nil, func(c config.Config) any { return c.Scan.Parallelism }, 3},
		{"THV underscores", "", []string{"THV_REGISTRY_DATABASE_MAX_META_SIZE=7"}, nil, func(c config.Config) any { return c.Database.MaxMetaSize }, 7},
		{"DB_URL", "", []string{"DB_URL=postgres://h/d", "DATABASE_URL=postgres://h/d"}, nil, func(c config.Config) any { return c.Database.Postgres.URL }, "postgres://h/d"},
		{"DB_URL as in the file", "database: {postgres: {url: postgres://h/d}}", []string{"DB_URL=postgres://h/d"}, nil, func(c config.Config) any { return c.Database.Postgres.URL }, "postgres://h/d"},
		{"list of hosts", "", []string{"DB_URL=postgres://a:1,b:2/d"}, nil, func(c config.Config) any { return c.Database.Postgres.URL }, "postgres://a:1,b:2/d"},
		{"hosts with spaces", "database: {host: \"a, b\", port: 1, user: u, database: d}", nil, nil, func(c config.Config) any { return c.Database.Host }, "a,b"},
		{"migration user beside a URL", "", []string{"DB_URL=postgres://h/d", "THV_REGISTRY_DATABASE_MIGRATIONUSER=m", "THV_REGISTRY_DATABASE_MIGRATIONPASSWORD=p"}, nil, func(c config.Config) any { return c.Database.MigrationUser + c.Database.MigrationPassword }, "mp"},
		{"region", "database: {dynamicAuth: {awsRdsIam: {region: us-gov-west-1}}}", nil, nil, func(c config.Config) any { return c.Database.DynamicAuth.AWSRDSIAM.Region }, "us-gov-west-1"},
		{"region from the environment", "database: {dynamicAuth: {awsRdsIam: {}}}", []string{"THV_REGISTRY_DATABASE_DYNAMICAUTH_AWSRDSIAM_REGION=detect"}, nil, func(c config.Config) any { return c.Database.DynamicAuth.AWSRDSIAM.Region }, "detect"},
		{"days", "retention: {events: 30d}", nil, nil, func(c config.Config) any { return c.Retention.Events }, 720 * time.Hour},
		{"days and hours", "retention: {events: 1d12h30m}", nil, nil, func(c config.Config) any { return c.Retention.Events }, 36*time.Hour + 30*time.Minute},

		{"TLS by default", "", []string{"DB_URL=postgres://h/d"}, nil, sslMode, "require"},
		{"TLS as the URL says", "", []string{"DB_URL=postgres://h/d?sslmode=verify-full", "PGSSLMODE=disable"}, nil, sslMode, "verify-full"},
		{"TLS of a URL by the environment", "", []string{"DB_URL=postgres://h/d", "PGSSLMODE=verify-full"}, nil, sslMode, "verify-full"},
		{"TLS of parts by the environment", "database: {host: h, port: 1, user: u, database: d}", []string{"PGSSLMODE=verify-full"}, nil, sslMode, "verify-full"},
		{"TLS as the file says", "database: {host: h, port: 1, user: u, database: d, sslMode: require}", []string{"PGSSLMODE=disable"}, nil, sslMode, "require"},
		{"TLS by PGSSLMODE alone", "", []string{"PGSSLMODE=disable"}, nil, sslMode, "disable"},
		{"TLS in the form of JDBC", "", []string{"DB_URL=postgres://h/d?ssl=true", "PGSSLMODE=disable"}, nil, sslMode, "require"},
		{"TLS in an escaped parameter", "", []string{"DB_URL=postgres://h/d?ssl%6dode=verify-full"}, nil, sslMode, "verify-full"},
		{"question mark in a password", "", []string{"DB_URL=postgres://u:?sslmode=prefer@h/d"}, nil, sslMode, "require"},
		{"the system's authorities", "", []string{"DB_URL=postgres://h/d?sslmode=require&sslrootcert=system"}, nil, sslMode, "verify-full"},

		{"a writer's server", "", []string{"DB_URL=postgres://a,b/d"}, nil, session, "read-write"},
		{"a reader's server", "role: reader", []string{"DB_URL=postgres://a/d"}, nil, session, "any"},
		{"a reader's servers", "role: reader", []string{"DB_URL=postgres://a,b/d"}, nil, session, "prefer-standby"},
		{"a reader's servers by parts", "role: reader\ndatabase: {host: \"a,b\", port: 1, user: u, database: d}", nil, nil, session, "prefer-standby"},
		{"a server as the URL says", "role: reader", []string{"DB_URL=postgres://a,b/d?target_session_attrs=primary"}, nil, session, "primary"},
		{"a server as the key says", "database: {targetSessionAttrs: primary}", []string{"DB_URL=postgres://a,b/d", "PGTARGETSESSIONATTRS=any"}, nil, session, "primary"},
		{"a server as libpq says", "", []string{"DB_URL=postgres://a,b/d", "PGTARGETSESSIONATTRS=any"}, nil, session, "any"},

		{"pgpass file", "", []string{"HOME=/home/x"}, nil, func(c config.Config) any { return c.Database.Passfile }, "/home/x/.pgpass"},
		{"PGPASSFILE", "", []string{"HOME=/home/x", "PGPASSFILE=/p"}, nil, func(c config.Config) any { return c.Database.Passfile }, "/p"},
		{"passfile of a URL", "", []string{"DB_URL=postgres://h/d?passfile=/u", "PGPASSFILE=/p"}, nil, func(c config.Config) any { return c.Database.Passfile }, "/u"},
		{"idle follows open", "", []string{"THV_REGISTRY_DATABASE_MAXOPENCONNS=3"}, nil, func(c config.Config) any { return c.Database.MaxIdleConns }, 3},
		{"reader without registry", "role: reader", []string{"PORTBOOK_REGISTRY_URL="}, nil, func(c config.Config) any { return c.Registry.PublicURL }, ""},
		{"a libpq service", "", []string{"PGHOST=", "PGSERVICE=s", "PGSERVICEFILE=testdata/pg_service.conf"}, nil, sslMode, "verify-full"},
		{"a URL over a libpq service", "", []string{"DB_URL=postgres:///d?service=s&sslmode=require&servicefile=testdata/pg_service.conf"}, nil, sslMode, "require"},
		{"test variables", "", []string{"PORTBOOK_TEST_DATABASE=x"}, nil, func(c config.Config) any { return c.Role }, config.Writer},
		{"Kubernetes service links", "", []string{
			"PORTBOOK_SERVICE_HOST=10.0.0.9", "PORTBOOK_SERVICE_PORT=80", "PORTBOOK_SERVICE_PORT_HTTP=80", "PORTBOOK_PORT=tcp://10.0.0.9:80",
			"PORTBOOK_PORT_80_TCP=tcp://10.0.0.9:80", "PORTBOOK_REGISTRY_PORT_80_TCP_ADDR=10.0.0.9", "PORTBOOK_DATABASE_PORT=tcp://10.0.0.9:5432",
		}, nil, func(c config.Config) any { return c.Database.Port }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := config.Load(config.Source{File: write(t, tt.file), Environ: append(enough[:2:2], tt.environ...), Flags: tt.flags})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, tt.of(c)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigFileFromEnvironment(t *testing.T) {
	t.Parallel()
	c, err := config.Load(config.Source{Environ: append(enough[:2:2], "PORTBOOK_CONFIG="+write(t, "role: reader"))})
	if err != nil || c.Role != config.Reader {
		t.Errorf("got role %q, error %v, want reader", c.Role, err)
	}
}

func dynamic(region string) string {
	return "database: {dynamicAuth: {awsRdsIam: {region: " + region + "}}}"
}

// Every message must name the mistake, its source and the remedy.
func TestErrors(t *testing.T) {
	t.Parallel()
	const parts = "database: {host: h, port: 1, user: u, database: d, "
	tests := []struct {
		name    string
		file    string
		environ []string
		flags   map[string]string
		want    string // FILE stands for the path of the file
	}{
		{"unknown key", "registry:\n  ulr: x", nil, nil, `unknown key "registry.ulr" (file FILE:2): did you mean registry.url?`},
		{"wrong section", "public_url: /", nil, nil, `unknown key "public_url" (file FILE:1): did you mean registry.public_url?`},
		{"unknown section", "databse: {host: secret}", nil, nil, `unknown key "databse" (file FILE:1): did you mean database?`},
		{"no similar key", "zzzzzzzzzz: 1", nil, nil, `unknown key "zzzzzzzzzz" (file FILE:1): doc/configuration.md lists all names`},
		{"twice", "registry:\n  public_url: /\n  publicURL: /", nil, nil, `registry.publicURL is set twice in the file, as public_url (file FILE:2) and as publicURL (file FILE:3): keep one`},
		{"section twice", "log: {level: info}\nLog: {format: json}", nil, nil, `Log is set twice in the file, as log (file FILE:1) and as Log (file FILE:2): keep one`},
		{"dotted and nested", "log: {level: info}\nlog.level: warn", nil, nil, `log.level is set twice in the file, as level (file FILE:1) and as log.level (file FILE:2): keep one`},
		{"section as value", "database: postgres://u:secret@h/d", nil, nil, `database is a section (file FILE:1): write its keys below it, one on each line, indented`},
		{"value as section", "events: {token: {a: b}}", nil, nil, `events.token must be one value, not a mapping or list (file FILE:1): put it in quotes if it contains { or [`},
		{"value as list", "role: [reader]", nil, nil, `role must be one value, not a mapping or list (file FILE:1): put it in quotes if it contains { or [`},
		{"not a mapping", "- a", nil, nil, `file FILE:1: not a mapping: write keys such as registry.url`},
		{"two documents", "role: reader\n---\nrole: writer", nil, nil, `file FILE contains more than one YAML document: keep one`},
		{"not YAML", "a: b: c", nil, nil, `file FILE is not YAML: yaml: mapping values are not allowed in this context`},
		{"password like an alias", "events: {token: *secret}", nil, nil, `file FILE: a value begins with * but names no anchor: put it in quotes`},
		{"password like an anchor", "events:\n  token: &secret\n", nil, nil, `the value of events.token begins with & or ! (file FILE:2): put it in quotes`},
		{"password like a tag", "events:\n  token: !secret\n", nil, nil, `the value of events.token begins with & or ! (file FILE:2): put it in quotes`},
		{"token with line break", "events:\n  token: |\n    secret\n", nil, nil, `events.token contains a line break or NUL (value not shown): check how it was stored, for example by echo without -n (file FILE:2)`},

		{"no unit", "interval:\n  fetch_all: 30", nil, nil, `interval.fetch_all: "30" has no unit: write 30s, 5m, 1h or 90d (file FILE:2)`},
		{"no duration", "", []string{"PORTBOOK_INTERVAL_FETCH_ALL=1y"}, nil, `interval.fetch_all: "1y" is not a duration: write 30s, 5m, 1h or 90d (environment PORTBOOK_INTERVAL_FETCH_ALL)`},
		{"negative", "cache: {max_age_html: -5s}", nil, nil, `cache.max_age_html: "-5s" is negative: write 30s, 5m, 1h or 90d (file FILE:1)`},
		{"no lifetime", "", []string{"THV_REGISTRY_DATABASE_CONNMAXLIFETIME=0"}, nil, `database.connMaxLifetime must be greater than zero: write 30s, 5m, 1h or 90d (environment THV_REGISTRY_DATABASE_CONNMAXLIFETIME)`},
		{"bool", "components: {web_ui: yes}", nil, nil, `components.web_ui: "yes" is not a boolean: write true or false (file FILE:1)`},
		{"integer", "scan: {parallelism: 2.5}", nil, nil, `scan.parallelism: "2.5" is not a whole number: write digits only (file FILE:1)`},
		{"range", "", nil, map[string]string{"scan-parallelism": "257"}, `scan.parallelism: "257" is out of range: write 1 to 256 (flag --scan-parallelism)`},
		{"port", parts + "PORT: 1}", nil, nil, `database.PORT is set twice in the file, as port (file FILE:1) and as PORT (file FILE:1): keep one`},
		{"port range", "database: {host: h, port: 65536, user: u, database: d}", nil, nil, `database.port: "65536" is out of range: write 1 to 65535 (file FILE:1)`},
		{"huge", "database: {maxMetaSize: 99999999999999999999}", nil, nil, `database.maxMetaSize: "99999999999999999999" is out of range: write a smaller number (file FILE:1)`},
		{"owner without repository", "flatpak: {owners: ['a=b', 'app/x/*= ']}", nil, nil, `flatpak.owners: "app/x/*=" is not an owner: write REF=REPOSITORY such as app/org.mozilla.*=flathub/* (file FILE:1)`},
		{"maxMetaSize", "database: {maxMetaSize: 0}", nil, nil, `database.maxMetaSize must be greater than zero: not "0" (file FILE:1)`},
		{"idle", "database: {maxIdleConns: 30}", nil, nil, `database.maxIdleConns: "30" is more than database.maxOpenConns: write at most 25 (file FILE:1)`},
		{"role", "role: master", nil, nil, `role: "master" is not valid: write one of writer, reader (file FILE:1)`},
		{"level", "log: {level: loud}", nil, nil, `log.level: "loud" is not valid: write one of debug, info, warn, error (file FILE:1)`},
		{"sslMode", parts + "sslMode: prefer}", nil, nil, `database.sslMode: "prefer" is not valid: write one of disable, require, verify-ca, verify-full (file FILE:1)`},

		{"variable", "", []string{"PORTBOOK_REGISTRY_ULR=secret"}, nil, `unknown environment variable PORTBOOK_REGISTRY_ULR: did you mean PORTBOOK_REGISTRY_URL?`},
		{"THV variable", "", []string{"THV_REGISTRY_DATABASE_PASWORD=secret"}, nil, `unknown environment variable THV_REGISTRY_DATABASE_PASWORD: did you mean PORTBOOK_DATABASE_PASSWORD?`},
		{"variables disagree", "", []string{"PORTBOOK_REGISTRY_PUBLICURL=/a", "PORTBOOK_REGISTRY_PUBLIC_URL=/b"}, nil, `registry.public_url is set twice, by environment PORTBOOK_REGISTRY_PUBLICURL and by environment PORTBOOK_REGISTRY_PUBLIC_URL: keep one`},
		{"flag", "", nil, map[string]string{"log-levle": "info"}, `unknown flag --log-levle: did you mean log.level?`},

		{"no registry", "", []string{"PORTBOOK_REGISTRY_URL="}, nil, `registry.url is required for a writer: set it or PORTBOOK_REGISTRY_URL, or set role to reader`},
		{"no registry for the proxy", "role: reader\ncomponents: {registry_proxy: true}", []string{"PORTBOOK_REGISTRY_URL="}, nil, `registry.url is required for components.registry_proxy: set it or PORTBOOK_REGISTRY_URL (file FILE:2)`},
		{"no registry for the front", "role: reader\nfront: {token: x}", []string{"PORTBOOK_REGISTRY_URL="}, nil, `registry.url is required for front.token: set it or PORTBOOK_REGISTRY_URL (file FILE:2)`},
		{"registry without scheme", "", nil, map[string]string{"registry-url": "localhost:5000"}, `registry.url: "localhost:5000" is not a URL of a registry: write http://host:port or https://host (flag --registry-url)`},
		{"registry with user", "", nil, map[string]string{"registry-url": "http://u:secret@h"}, `registry.url: "http://REDACTED@h" contains a user: set registry.username and registry.password (flag --registry-url)`},
		{"registry with query", "", nil, map[string]string{"registry-url": "http://h?token=secret"}, `registry.url: "http://h?token=REDACTED" contains a query or fragment: remove it (flag --registry-url)`},
		{"public_url", "registry: {public_url: x}", nil, nil, `registry.public_url: "x" is not a URL of a registry: write http://host:port or https://host, or a path such as / (file FILE:1)`},
		{"public_url without scheme", "registry: {public_url: //h}", nil, nil, `registry.public_url: "//h" is not a URL of a registry: write http://host:port or https://host, or a path such as / (file FILE:1)`},
		{"accounts without keys", "auth: {method: accounts}", nil, nil, "auth.keys is required with auth.method accounts: make the file with `portbook keys rotate FILE` (file FILE:1)"},
		{"keys without accounts", "auth: {keys: k}", nil, nil, `auth.keys is not used with auth.method none: remove it, or set auth.method to accounts (file FILE:1)`},
		{"nobody logs in from other machines", "http: {address: \":8080\"}", nil, nil, `nobody logs in, and http.address ":8080" can be reached from other machines: set auth.method to accounts, or to none if everybody who reaches it may see everything (file FILE:1)`},
		{"nobody logs in at an address of the network", "", []string{"PORTBOOK_HTTP_ADDRESS=10.0.0.5:8080"}, nil, `nobody logs in, and http.address "10.0.0.5:8080" can be reached from other machines: set auth.method to accounts, or to none if everybody who reaches it may see everything (environment PORTBOOK_HTTP_ADDRESS)`},
		{"accounts and a user", "auth: {method: accounts, keys: k}\nregistry: {username: u, password: p}", nil, nil, `registry.username is not used with auth.keys, because the indexer signs its own tokens: remove it and registry.password (file FILE:2)`},
		{"a provider without accounts", "registry: {public_url: 'https://h'}\ncomponents: {web_ui: true}\nauth: {oidc: {issuer: 'https://i', client_id: a, client_secret: b}}", nil, nil, `auth.oidc.issuer is used only with auth.method accounts, and auth.method is none: set auth.method, or remove it (file FILE:3)`},
		{"a provider without pages", browser + "oidc: {issuer: 'https://i', client_id: a, client_secret: b}}\ncomponents: {web_ui: false}", nil, nil, `auth.oidc.issuer is for people in the browser, and components.web_ui is false: set it to true, or remove auth.oidc.issuer (file FILE:2)`},
		{"half of OIDC", browser + "oidc: {issuer: 'https://i', client_secret: secret}}\ncomponents: {web_ui: true}", nil, nil, `auth.oidc.client_id is required with auth.oidc.issuer: set it (file FILE:2)`},
		{"no account of GitHub", "registry: {public_url: 'https://h'}\nauth: {github_login: {client_id: a, client_secret: x}}\ncomponents: {web_ui: true}", nil, nil, `auth.github_login.client_id is used only with auth.method accounts, and auth.method is none: set auth.method, or remove it (file FILE:2)`},
		{"an issuer that is no URL", browser + "oidc: {issuer: i, client_id: a, client_secret: b}}\ncomponents: {web_ui: true}", nil, nil, `auth.oidc.issuer: "i" is not a URL: write https://host, with a path if it has one (file FILE:2)`},
		{"a scope too few", browser + "oidc: {issuer: 'https://i', client_id: a, client_secret: b, scopes: [profile]}}\ncomponents: {web_ui: true}", nil, nil, `auth.oidc.scopes has no openid, without which a provider does not say who a person is: add it (file FILE:2)`},
		{"a provider and no public address", "auth: {method: accounts, keys: k, oidc: {issuer: 'https://i', client_id: a, client_secret: b}}\ncomponents: {web_ui: true}", nil, nil, `registry.public_url does not say where browsers reach us, which a sign-in at a provider needs: set it to a URL such as https://registry.example.org, or set auth.oidc.redirect_url`},
		{"a provider and a path", "registry: {public_url: /}\nauth: {method: accounts, keys: k, github_login: {client_id: a, client_secret: b}}\ncomponents: {web_ui: true}", nil, nil, `registry.public_url does not say where browsers reach us, which a sign-in at a provider needs: set it to a URL such as https://registry.example.org, or set auth.github_login.redirect_url (file FILE:1)`},
		{"sessions without accounts", "auth: {sessions: {store: memory}}", nil, nil, `auth.sessions.store is used only with auth.method accounts, and auth.method is none: set auth.method, or remove it (file FILE:1)`},
		{"no such store", browser + "sessions: {store: file}}", nil, nil, `auth.sessions.store: "file" is not valid: write one of jwt, memory, postgres, redis (file FILE:2)`},
		{"memory of a reader", "role: reader\n" + browser + "sessions: {store: memory}}", nil, nil, `auth.sessions.store is memory, which is that of one process, and a reader begins no session: set it to jwt, postgres or redis here and at the writer (file FILE:3)`},
		{"no Redis", browser + "sessions: {store: redis}}", nil, nil, `auth.sessions.redis is required with auth.sessions.store redis: set it to a URL such as redis://redis:6379/0 (file FILE:2)`},
		{"Redis in vain", browser + "sessions: {redis: 'redis://:secret@h'}}", nil, nil, `auth.sessions.redis is used only with auth.sessions.store redis, and that is jwt: set it to redis, or remove auth.sessions.redis (file FILE:2)`},
		{"Redis that is no URL", browser + "sessions: {store: redis, redis: 'http://:secret@h'}}", nil, nil, `auth.sessions.redis is not a URL of Redis (value not shown): write redis://host:6379/0, with rediss for TLS, a user and a password before the host if it needs them, and no query (file FILE:2)`},
		{"one issuer twice", browser + "github_login: {url: 'https://i/', client_id: a, client_secret: b}, oidc: {issuer: 'https://i', client_id: a, client_secret: b}}\ncomponents: {web_ui: true}", nil, nil, `auth.github_login.url and auth.oidc.issuer are both "https://i/": use one of them (file FILE:2)`},
		{"half of the tokens", "", []string{"WRITE_ACCESS_TOKEN=x"}, nil, `auth.read_token is required with auth.method tokens: set it (environment WRITE_ACCESS_TOKEN)`},
		{"half of the tokens of another method", "auth: {token: x, read_token: y}", nil, nil, `auth.read_token is set without auth.write_token: set both or neither (file FILE:1)`},
		{"an empty token", "", []string{"ACCESS_TOKEN="}, nil, `ACCESS_TOKEN is set, but empty: give it a value, or do not set it (environment ACCESS_TOKEN)`},
		{"a secret without its application", "", []string{"GITHUB_CLIENT_SECRET=x"}, nil, `auth.github.client_id is required with auth.method github: set it (environment GITHUB_CLIENT_SECRET)`},
		{"READ_NEEDS_AUTH without a method of logins", "", []string{"READ_NEEDS_AUTH="}, nil, `auth.login_to_read needs a login, and auth.method is none: set auth.method, or remove it (environment READ_NEEDS_AUTH)`},
		{"a method without its token", "auth: {method: token}", nil, nil, `auth.token is required with auth.method token: set it (file FILE:1)`},
		{"a delegate without its address", "auth: {method: delegated}", nil, nil, `auth.delegate.url is required with auth.method delegated: set it (file FILE:1)`},
		{"half of a delegate", "auth: {delegate: {anonymous: true}}", nil, nil, `auth.delegate.anonymous needs auth.delegate.url: set it, or remove auth.delegate.anonymous (file FILE:1)`},
		{"a delegate that is no URL", "auth: {delegate: {url: api.deploys.app}}", nil, nil, `auth.delegate.url: "api.deploys.app" is not a URL of an API: write http://host:port or https://host (file FILE:1)`},
		{"a delegate with a user", "auth: {delegate: {url: 'https://u:secret@h'}}", nil, nil, `auth.delegate.url: "https://REDACTED@h" contains a user: remove it (file FILE:1)`},
		{"no such method", "auth: {method: ldap}", nil, nil, `auth.method: "ldap" is not valid: write one of none, accounts, token, tokens, github, delegated (file FILE:1)`},
		{"username without a password", "registry: {username: u}", nil, nil, `registry.username and registry.password go together: set both or neither (file FILE:1)`},
		{"address", "http: {address: 8080}", nil, nil, `http.address: "8080" is not an address: write host:port such as 127.0.0.1:8080 (file FILE:1)`},
		{"address with a URL", "", []string{"PORTBOOK_HTTP_ADDRESS=postgres://u:secret@h/d"}, nil, `http.address: "postgres://u:REDACTED@h/d" is not an address: write host:port such as 127.0.0.1:8080 (environment PORTBOOK_HTTP_ADDRESS)`},
		{"the same address twice", "http: {address: \"[::1]:1\", operations_address: \"[::1]:1\"}", nil, nil, `http.address and http.operations_address are both "[::1]:1": give them different ports`},

		{"no database", "", []string{"PGHOST="}, nil, `database.postgres.url or database.host is required: set one of them, DB_URL, or libpq's PGHOST or PGSERVICE`},
		{"no host", "database: {port: 1, user: u, database: d}", nil, nil, `database.host is required: set it or PORTBOOK_DATABASE_HOST (database.port is set by file FILE:1)`},
		{"no port", "database: {host: h, user: u, database: d}", nil, nil, `database.port is required: set it or PORTBOOK_DATABASE_PORT (database.host is set by file FILE:1)`},
		{"no user", "database: {host: h, port: 1, database: d}", nil, nil, `database.user is required: set it or PORTBOOK_DATABASE_USER (database.host is set by file FILE:1)`},
		{"no database name", "database: {host: h, port: 1, user: u}", nil, nil, `database.database is required: set it or PORTBOOK_DATABASE_DATABASE (database.host is set by file FILE:1)`},
		{"URL and host", parts + "postgres: {url: postgres://u:secret@h}}", nil, nil, `database.postgres.url (file FILE:1) and database.host (file FILE:1) both name the database: keep one (with a URL, the password may be in PGPASSWORD)`},
		{"URL and password", "", []string{"DB_URL=postgres://h", "THV_REGISTRY_DATABASE_PASSWORD=secret"}, nil, `database.postgres.url (environment DB_URL) and database.password (environment THV_REGISTRY_DATABASE_PASSWORD) both name the database: keep one (with a URL, the password may be in PGPASSWORD)`},
		{"DB_URL and another in the file", "database: {postgres: {url: postgres://u:secret@h}}", []string{"DB_URL=postgres://u:secret@i"}, nil, `database.postgres.url is set by file FILE:1 and by environment DB_URL: keep one`},
		{"DB_URL and DATABASE_URL", "", []string{"DB_URL=postgres://u:secret@h", "DATABASE_URL=postgres://u:secret@i"}, nil, `database.postgres.url is set twice, by environment DATABASE_URL and by environment DB_URL: keep one`},
		{"a host with its port", "database: {host: \"h:1\", port: 1, user: u, database: d}", nil, nil, `database.host: "h:1" contains a port: set database.port, which applies to all hosts, or database.postgres.url (file FILE:1)`},
		{"a host with an extra comma", "database: {host: \"a,,b\", port: 1, user: u, database: d}", nil, nil, `database.host: "a,,b" has an extra comma: write hosts such as db1,db2 (file FILE:1)`},
		{"a URL as host", "database: {host: \"postgres://u:secret@h\", port: 1, user: u, database: d}", nil, nil, `database.host: "postgres://u:REDACTED@h" is a URL: set database.postgres.url instead (file FILE:1)`},
		{"malformed URL", "", []string{"DB_URL=postgres://u:sec/ret@h/d"}, nil, `database.postgres.url cannot be parsed: write postgres://user:password@host:port/database, and %40 for @, %2F for /, %3A for : and %3F for ? in a password (value not shown) (environment DB_URL)`},
		{"ports and hosts", "", []string{"DB_URL=postgres://a,b,c/d?port=1,2"}, nil, `database.postgres.url: a parameter after the ? cannot be parsed: check it against the parameters of libpq (value not shown) (environment DB_URL)`},
		{"timeout in a URL", "", []string{"DB_URL=postgres://u:secret@h/d?connect_timeout=5s"}, nil, `database.postgres.url: a parameter after the ? cannot be parsed: check it against the parameters of libpq (value not shown) (environment DB_URL)`},
		{"pool in a URL", "", []string{"DB_URL=postgres://h/d?pool_max_conns=9"}, nil, `pool_max_conns in database.postgres.url, environment DB_URL is not supported: set database.maxOpenConns, database.maxIdleConns or database.connMaxLifetime`},
		{"connections of a writer", "database: {maxOpenConns: 1}", nil, nil, `database.maxOpenConns: "1" is too few for a writer, which keeps one connection for the leader: write at least 2 (file FILE:1)`},
		{"session", "database: {targetSessionAttrs: master}", nil, nil, `database.targetSessionAttrs: "master" is not valid: write one of any, read-write, read-only, primary, standby, prefer-standby (file FILE:1)`},
		{"session of a writer", "database: {targetSessionAttrs: standby}", nil, nil, `database.targetSessionAttrs: "standby" selects servers that do not accept writes: write read-write or primary, or set role to reader (file FILE:1)`},
		{"session in a URL", "", []string{"DB_URL=postgres://h/d?target_session_attrs=master"}, nil, `database.targetSessionAttrs: "master" is not valid: write one of any, read-write, read-only, primary, standby, prefer-standby (database.postgres.url, environment DB_URL)`},
		{"every client a scanner", "usage: {scanners: [trivy, '*?']}", nil, nil, `usage.scanners: "*?" fits every client, so no pull would count: write a pattern such as *trivy* (file FILE:1)`},
		{"too many days", "retention: {events: 999999d}", nil, nil, `retention.events: "999999d" is not a duration: write 30s, 5m, 1h or 90d (file FILE:1)`},
		{"days with days", "retention: {events: 1d48h}", nil, nil, `retention.events: "1d48h" is not a duration: write 30s, 5m, 1h or 90d (file FILE:1)`},
		{"no timeout of the lock", "database: {migrationLockTimeout: 0}", nil, nil, `database.migrationLockTimeout must be greater than zero: write 30s, 5m, 1h or 90d (file FILE:1)`},

		{"prefer in a URL", "", []string{"DB_URL=postgres://h/d?sslmode=prefer"}, nil, `sslmode=prefer falls back to plain text if TLS fails: write require, or disable to turn TLS off (database.postgres.url, environment DB_URL)`},
		{"allow in the environment", "", []string{"PGSSLMODE=allow"}, nil, `sslmode=allow falls back to plain text if TLS fails: write require, or disable to turn TLS off (environment PGSSLMODE)`},
		{"allow in a service", "", []string{"PGSERVICE=old", "PGSERVICEFILE=testdata/pg_service.conf"}, nil, `sslmode=allow falls back to plain text if TLS fails: write require, or disable to turn TLS off (service old of testdata/pg_service.conf)`},
		{"sslmode in a URL", "", []string{"DB_URL=postgres://h/d?sslmode=on"}, nil, `sslmode: "on" is not valid: write one of disable, require, verify-ca, verify-full (database.postgres.url, environment DB_URL)`},
		{"verify-ca without an authority", parts + "sslMode: verify-ca}", nil, nil, `sslmode verify-ca requires the certificate of your authority: set PGSSLROOTCERT to its file, or use verify-full, which also checks the host name and can trust the authorities of the system (file FILE:1)`},
		{"no root certificate", "", []string{"DB_URL=postgres://u:secret@h/d?sslrootcert=testdata/none.crt"}, nil, `TLS to the database cannot be set up: open testdata/none.crt: no such file or directory: check PGSSLROOTCERT, PGSSLCERT and PGSSLKEY`},
		{"invalid root certificate", "", []string{"DB_URL=postgres://u:secret@h/d?sslrootcert=testdata/flagstate.yaml"}, nil, `TLS to the database cannot be set up: unable to add CA to cert pool: check PGSSLROOTCERT, PGSSLCERT, PGSSLKEY and similar variables`},
		{"service unknown", "", []string{"PGSERVICE=x", "PGSERVICEFILE=testdata/pg_service.conf"}, nil, `the file testdata/pg_service.conf has no service "x": add it or correct the name (environment PGSERVICE)`},
		{"no service file", "", []string{"PGSERVICE=x", "PGSERVICEFILE=testdata/none"}, nil, `the service "x" cannot be read: open testdata/none: no such file or directory: check PGSERVICEFILE (environment PGSERVICE)`},

		{"empty dynamicAuth", "database:\n  dynamicAuth: {}", nil, nil, `database.dynamicAuth.awsRdsIam.region is required, since the file has dynamicAuth (file FILE:2): write an AWS region such as eu-west-1, or detect, or remove database.dynamicAuth to use passwords`},
		{"empty awsRdsIam", "database:\n  dynamicAuth: {awsRdsIam: {}}", nil, nil, `database.dynamicAuth.awsRdsIam.region is required, since the file has dynamicAuth (file FILE:2): write an AWS region such as eu-west-1, or detect, or remove database.dynamicAuth to use passwords`},
		{"nothing in dynamicAuth", "database:\n  dynamicAuth:", nil, nil, `database.dynamicAuth.awsRdsIam.region is required, since the file has dynamicAuth (file FILE:2): write an AWS region such as eu-west-1, or detect, or remove database.dynamicAuth to use passwords`},
		{"no region", dynamic("Frankfurt"), nil, nil, `database.dynamicAuth.awsRdsIam.region: "Frankfurt" is not an AWS region: write one such as eu-west-1, or detect (file FILE:1)`},
		{"password and token", parts + "password: secret, dynamicAuth: {awsRdsIam: {region: detect}}}", nil, nil, `database.password and database.dynamicAuth are mutually exclusive; use one authentication method: remove one (file FILE:1; file FILE:1)`},
		{"THV password and token", parts + "dynamicAuth: {awsRdsIam: {region: detect}}}", []string{"THV_REGISTRY_DATABASE_PASSWORD=secret"}, nil, `database.password and database.dynamicAuth are mutually exclusive; use one authentication method: remove one (environment THV_REGISTRY_DATABASE_PASSWORD; file FILE:1)`},
		{"PGPASSWORD and token", dynamic("eu-west-1"), []string{"PGPASSWORD=secret"}, nil, `PGPASSWORD and database.dynamicAuth are mutually exclusive; use one authentication method: remove one (it would be a second password) (environment PGPASSWORD; file FILE:1)`},
		{"URL's password and token", dynamic("eu-west-1"), []string{"DB_URL=postgres://u:secret@h/d"}, nil, `a password in database.postgres.url and database.dynamicAuth are mutually exclusive; use one authentication method: remove one (database.postgres.url, environment DB_URL; file FILE:1)`},
		{"migrationPassword and token", dynamic("eu-west-1"), []string{"THV_REGISTRY_DATABASE_MIGRATIONPASSWORD=secret"}, nil, `database.migrationPassword and database.dynamicAuth are mutually exclusive; use one authentication method: remove one (environment THV_REGISTRY_DATABASE_MIGRATIONPASSWORD; file FILE:1)`},
		{"two passwords of one user", parts + "password: secret, migrationUser: u, migrationPassword: secret2}", nil, nil, `database.migrationPassword (file FILE:1) differs from the password of the same user (file FILE:1): remove it, or set database.migrationUser`},

		{"not a Postgres URL", "", []string{"DB_URL=mysql://u:secret@h"}, nil, `database.postgres.url must begin with postgres:// or postgresql:// (value not shown) (environment DB_URL)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := write(t, tt.file)
			_, err := config.Load(config.Source{File: file, Environ: append(enough[:2:2], tt.environ...), Flags: tt.flags})
			got := strings.ReplaceAll(fmt.Sprint(err), file, "FILE")
			if got != tt.want {
				t.Errorf("file %q, environment %q, flags %q\n got %s\nwant %s", tt.file, tt.environ, tt.flags, got, tt.want)
			}
			if strings.Contains(got, "secret") {
				t.Errorf("the message contains a secret: %s", got)
			}
		})
	}
}

func TestFileMissing(t *testing.T) {
	t.Parallel()
	_, err := config.Load(config.Source{File: "testdata/none.yaml", Environ: enough})
	const want = "configuration file: open testdata/none.yaml: no such file or directory: check --config or PORTBOOK_CONFIG"
	if fmt.Sprint(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// One start must report all mistakes.
func TestAllErrorsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := config.Load(config.Source{
		File:    write(t, "rol: x\nlog: {level: loud}\nscan: {parallelism: 0}"),
		Environ: []string{"PORTBOOK_X=1"},
		Flags:   map[string]string{"cache-max-age-html": "5"},
	})
	for _, want := range []string{`"rol"`, "log.level", "scan.parallelism", "PORTBOOK_X", "cache.max_age_html", "registry.url", "database.host"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("got no %s in:\n%v", want, err)
		}
	}
	if got := strings.Count(fmt.Sprint(err), "\n") + 1; got != 7 {
		t.Errorf("got %d lines, want 7:\n%v", got, err)
	}
}

// sample returns a text for a key that is not its default, and the value of that text.
func sample(t *testing.T, k config.Key, v reflect.Value) (string, any) {
	t.Helper()
	switch v.Interface().(type) {
	case bool:
		other := k.Default != "true"
		return fmt.Sprint(other), other
	case int:
		return "3", 3
	case time.Duration:
		return "90s", 90 * time.Second
	case []string:
		if k.Name == "flatpak.owners" {
			return "a=b,c/*=d/*", []string{"a=b", "c/*=d/*"}
		}
		if k.Name == "auth.oidc.scopes" {
			return "openid,a", []string{"openid", "a"}
		}
		return "a,b", []string{"a", "b"}
	}
	text, ok := map[string]string{
		"role": "reader", "registry.url": "http://other", "registry.public_url": "/other",
		"http.address": "[::1]:1", "http.operations_address": ":2",
		"database.postgres.url": "postgres://h/d", "database.sslMode": "disable",
		"database.targetSessionAttrs": "primary", "database.dynamicAuth.awsRdsIam.region": "eu-west-1",
		"storage.cache.blobdescriptor": "redis", "log.level": "warn", "log.format": "json", "auth.method": "accounts", "auth.github.url": "http://other",
		"auth.delegate.url": "http://other", "auth.sessions.store": "postgres", "auth.sessions.redis": "redis://h",
		"auth.oidc.issuer": "http://other", "auth.oidc.redirect_url": "http://other", "auth.github_login.url": "http://other",
		"auth.github_login.api": "http://other", "auth.github_login.redirect_url": "http://other", "collect.sweep": "http://other",
	}[k.Name]
	if !ok {
		text = "text"
	}
	if k.Name == "log.level" {
		return text, slog.LevelWarn
	}
	return text, reflect.ValueOf(text).Convert(v.Type()).Interface()
}

// field returns the value of a key in c. It finds it by the tags of the struct, without
// the code under test.
func field(t *testing.T, c config.Config, key string) reflect.Value {
	t.Helper()
	v := reflect.ValueOf(c)
next:
	for part := range strings.SplitSeq(key, ".") {
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("mapstructure") == part {
				v = v.Field(i)
				continue next
			}
		}
		t.Fatalf("Config has no field for %s", key)
	}
	return v
}

// variables returns the names of the environment variables of a key.
func variables(k config.Key) []string {
	names := []string{k.Env()}
	section, last, found := strings.Cut(strings.TrimPrefix(k.Env(), "PORTBOOK_"), "_")
	if found {
		names = append(names, "PORTBOOK_"+section+"_"+strings.ReplaceAll(last, "_", ""))
	}
	if section == "DATABASE" {
		names = append(names, "THV_REGISTRY_DATABASE_"+last)
	}
	return names
}

// withSignIn sets what a sign-in at a provider needs.
func withSignIn(env map[string]string) {
	for name, value := range map[string]string{
		"AUTH_METHOD": "accounts", "AUTH_KEYS": "x", "COMPONENTS_WEB_UI": "true", "REGISTRY_PUBLIC_URL": "https://public",
	} {
		env["PORTBOOK_"+name] = value
	}
}

// Each variable and each flag must work alone. The ToolHive server ignores a variable
// if its key is not in the file.
func TestEveryKeyFromEnvironmentAndFlags(t *testing.T) {
	t.Parallel()
	keys := config.Keys()
	if len(keys) < 30 {
		t.Fatalf("got %d keys, want at least 30", len(keys))
	}
	for _, k := range keys {
		text, want := sample(t, k, field(t, config.Config{}, k.Name))
		switch k.Name {
		case "webhooks.key":
			text = strings.Repeat("k", 32)
			want = text
		case "packages.prefix":
			text, want = "x/", "x/"
		case "packages.api", "packages.index_url":
			text, want = "http://x", "http://x"
		case "errors.sentry_dsn":
			text = "https://key@sentry.example.com/7"
			want = text
		case "webhooks.allow_networks":
			text, want = "10.1.0.0/16,fd00::1", []string{"10.1.0.0/16", "fd00::1"}
		}
		base := map[string]string{"PORTBOOK_REGISTRY_URL": "http://registry:5000", "PGHOST": "db"}
		switch k.Name {
		case "database.host", "database.port", "database.user", "database.password", "database.database", "database.sslMode":
			for _, other := range keys {
				switch other.Name {
				case "database.host", "database.user", "database.database":
					base[other.Env()] = "x"
				case "database.port":
					base[other.Env()] = "1"
				}
			}
		case "auth.method":
			base["PORTBOOK_AUTH_KEYS"] = "x"
		case "auth.keys":
			base["PORTBOOK_AUTH_METHOD"] = "accounts"
		case "auth.login_to_read":
			base["PORTBOOK_AUTH_TOKEN"] = "x"
		case "auth.delegate.anonymous":
			base["PORTBOOK_AUTH_DELEGATE_URL"] = "http://other"
		case "auth.read_token", "auth.write_token":
			base["PORTBOOK_AUTH_READ_TOKEN"], base["PORTBOOK_AUTH_WRITE_TOKEN"] = "x", "x"
		case "auth.github.client_id", "auth.github.client_secret":
			base["PORTBOOK_AUTH_GITHUB_CLIENT_ID"], base["PORTBOOK_AUTH_GITHUB_CLIENT_SECRET"] = "x", "x"
		case "auth.oidc.issuer", "auth.oidc.client_id", "auth.oidc.client_secret", "auth.oidc.title", "auth.oidc.scopes",
			"auth.oidc.name_claim", "auth.oidc.groups_claim", "auth.oidc.redirect_url":
			withSignIn(base)
			base["PORTBOOK_AUTH_OIDC_ISSUER"] = "http://x"
			base["PORTBOOK_AUTH_OIDC_CLIENT_ID"], base["PORTBOOK_AUTH_OIDC_CLIENT_SECRET"] = "x", "x"
		case "auth.sessions.store", "auth.sessions.redis", "auth.sessions.prefix":
			withSignIn(base)
			if k.Name == "auth.sessions.redis" {
				base["PORTBOOK_AUTH_SESSIONS_STORE"] = "redis"
			}
		case "auth.github_login.client_id", "auth.github_login.client_secret", "auth.github_login.url", "auth.github_login.api",
			"auth.github_login.organizations", "auth.github_login.redirect_url":
			withSignIn(base)
			base["PORTBOOK_AUTH_GITHUB_LOGIN_CLIENT_ID"], base["PORTBOOK_AUTH_GITHUB_LOGIN_CLIENT_SECRET"] = "x", "x"
		case "collect.sweep", "collect.token", "collect.delete", "collect.delay":
			base["PORTBOOK_COLLECT_SWEEP"], base["PORTBOOK_COLLECT_TOKEN"] = "http://x", "x"
			base["PORTBOOK_COLLECT_LOOK"] = "1s"
		case "packages.git_username", "packages.git_password":
			base["PORTBOOK_PACKAGES_GIT_USERNAME"], base["PORTBOOK_PACKAGES_GIT_PASSWORD"] = "x", "x"
		case "registry.username", "registry.password":
			base["PORTBOOK_REGISTRY_USERNAME"], base["PORTBOOK_REGISTRY_PASSWORD"] = "x", "x"
		}
		delete(base, k.Env())
		var environ []string
		for name, value := range base {
			environ = append(environ, name+"="+value)
		}
		for _, name := range variables(k) {
			c, err := config.Load(config.Source{Environ: append(environ[:len(environ):len(environ)], name+"="+text)})
			if err != nil {
				t.Errorf("%s=%s: %v", name, text, err)
			} else if got := field(t, c, k.Name).Interface(); !cmp.Equal(got, want) {
				t.Errorf("%s=%s: %s: got %v, want %v", name, text, k.Name, got, want)
			}
		}
		flag := strings.ToLower(strings.NewReplacer(".", "-", "_", "-").Replace(k.Name))
		c, err := config.Load(config.Source{Environ: environ, Flags: map[string]string{flag: text}})
		if err != nil {
			t.Errorf("--%s %s: %v", flag, text, err)
		} else if got := field(t, c, k.Name).Interface(); !cmp.Equal(got, want) {
			t.Errorf("--%s %s: %s: got %v, want %v", flag, text, k.Name, got, want)
		}
	}
}

// The variables of two keys must have different names: otherwise one would hide the
// other.
func TestKeysAreDistinct(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, k := range config.Keys() {
		folded := strings.ToLower(strings.NewReplacer(".", "", "_", "").Replace(k.Name))
		if other, ok := seen[folded]; ok {
			t.Errorf("%s and %s have the same variable", k.Name, other)
		}
		seen[folded] = k.Name
		for _, word := range []string{"password", "token", "secret"} {
			if strings.Contains(folded, word) && !k.Secret {
				t.Errorf("%s is not marked secret", k.Name)
			}
		}
	}
}

func TestConnString(t *testing.T) {
	t.Parallel()
	for _, d := range []config.Database{
		{Host: "db.example.com", Port: 5432, User: "u", Password: "p", Database: "d", SSLMode: "verify-full"},
		{Host: "h", Port: 1, User: `o'ne two\`, Password: `pa's\s w/o?r&d=#@:%41`, Database: "a/b?c", SSLMode: "disable"},
		{Host: "fe80::1%eth0", Port: 1, User: "u", Password: " ", Database: "d", SSLMode: "disable"},
		{Host: "/var/run/postgresql", Port: 1, User: "u", Password: "x", Database: "' host='evil", SSLMode: "disable"},
	} {
		c, err := pgconn.ParseConfig(d.ConnString())
		if err != nil {
			t.Errorf("%s: %v", d.ConnString(), err)
			continue
		}
		got := config.Database{Host: c.Host, Port: int(c.Port), User: c.User, Password: c.Password, Database: c.Database, SSLMode: d.SSLMode}
		if diff := cmp.Diff(d, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", d.ConnString(), diff)
		}
		if d.SSLMode == "verify-full" && c.TLSConfig.ServerName != d.Host {
			t.Errorf("%s: got TLS for the name %q", d.ConnString(), c.TLSConfig.ServerName)
		}
	}
}

// PGPASSWORD is used if the configuration has no password. pgx must never read the
// pgpass file, since it accepts one that everybody may read.
func TestConnStringWithoutPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(file, []byte("*:*:*:*:from-pgpass"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGPASSFILE", file)
	for _, d := range []config.Database{
		{Host: "h", Port: 1, User: "u", Database: "d", SSLMode: "disable"},
		{Postgres: config.Postgres{URL: "postgres://u@h/d"}, SSLMode: "disable"},
		{SSLMode: "disable"},
	} {
		for _, want := range []string{"", "from-libpq"} {
			t.Setenv("PGPASSWORD", want)
			c, err := pgconn.ParseConfig(d.ConnString())
			if err != nil || c.Password != want {
				t.Errorf("%s with PGPASSWORD=%q: got password %q, error %v", d.ConnString(), want, c.Password, err)
			}
		}
	}
}

// The values that Load found must override those in the URL.
func TestConnStringOfURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://u:p@h/d", "postgres://u:p@h/d?", "postgres://u:p@h/d?application_name=x", "postgres://u:p@h/d?application_name=x&",
		"postgres://u:p?w@h/d", "postgres://u:p@h", "postgresql://u:p@h:5432,i:5433/d?sslmode=prefer", "postgres://u:p@[::1]/d?ssl=true",
		"postgres://u:p@h/d?sslmode=prefer&sslmode=allow", "postgres://h/d?user=u&password=p&target_session_attrs=any",
	} {
		d := config.Database{Postgres: config.Postgres{URL: url}, SSLMode: "verify-full", TargetSessionAttrs: "primary"}
		c, err := pgconn.ParseConfig(d.ConnString())
		if err != nil {
			t.Errorf("%s: %v", d.ConnString(), err)
			continue
		}
		attempts := append(c.Fallbacks, &pgconn.FallbackConfig{Host: c.Host, TLSConfig: c.TLSConfig})
		for _, a := range attempts {
			if a.TLSConfig == nil || a.TLSConfig.InsecureSkipVerify || a.TLSConfig.ServerName == "" && a.Host != "::1" {
				t.Errorf("%s: host %s is used without verify-full", url, a.Host)
			}
		}
		if c.ValidateConnect == nil || c.User != "u" || !strings.HasPrefix(c.Password, "p") {
			t.Errorf("%s: got user %q, password %q, target_session_attrs checked: %v", url, c.User, c.Password, c.ValidateConnect != nil)
		}
	}
}

// A printed configuration must not contain secrets, however it is printed.
func TestRedacted(t *testing.T) {
	t.Parallel()
	const marker = "hunter2"
	full := config.Config{Log: config.Log{Format: "json"}}
	for _, k := range config.Keys() {
		if k.Secret {
			secretField(t, &full, k.Name).SetString(marker)
		}
	}
	configs := []config.Config{full}
	for _, url := range []string{
		"postgres://u:" + marker + "@h/d",
		"postgresql://u:" + marker + "@h1:1,u:" + marker + "@h2:2/d?sslmode=require",
		"postgres://u@h/d?sslmode=require&password=" + marker,
		"postgres://h/d?SSLPASSWORD=" + marker + ";x=1",
		"postgres://h/d?%70assword=" + marker,
		"postgres://h/d?%zzpassword=" + marker,
		"postgres://u:pa/" + marker + "@h/d",
		"postgres://u:1?" + marker + "@h/d",
		"postgres://u:1#" + marker + "@h/d",
		"postgres://u:a@" + marker + "@h/d",
		"postgres://u:" + marker,
		"postgres://u:" + marker + "/x",
		"host=h password=" + marker,
		"u:" + marker + "@h",
	} {
		configs = append(configs, config.Config{Database: config.Database{Postgres: config.Postgres{URL: url}}})
	}
	for _, url := range []string{"http://u:" + marker + "@h", "http://" + marker + "@h", "http://h?access_token=" + marker} {
		configs = append(configs, config.Config{Registry: config.Registry{URL: url, PublicURL: url}})
	}
	for _, c := range configs {
		var buf bytes.Buffer
		slog.New(slog.NewJSONHandler(&buf, nil)).Info("start", "config", c)
		slog.New(slog.NewTextHandler(&buf, nil)).Info("start", "config", &c)
		fmt.Fprintf(&buf, "%v %+v %#v %s %v", c, c, c, c, &c)
		if err := json.NewEncoder(&buf).Encode(c.Redacted()); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(buf.String(), marker) {
			t.Errorf("URL %q, registry %q: the output contains the secret:\n%s", c.Database.Postgres.URL, c.Registry.URL, buf.String())
		}
	}
	if got := configs[0].Events.Token; got != marker {
		t.Errorf("Redacted changed its receiver: got token %q", got)
	}
}

func secretField(t *testing.T, c *config.Config, key string) reflect.Value {
	t.Helper()
	section, last, _ := strings.Cut(key, ".")
	v := reflect.ValueOf(c).Elem()
	for part := range strings.SplitSeq(section+"."+last, ".") {
		v = v.FieldByNameFunc(func(s string) bool { return strings.EqualFold(s, strings.ReplaceAll(part, "_", "")) })
	}
	return v
}

// A printed configuration must still show where the process connects.
func TestString(t *testing.T) {
	t.Parallel()
	c, err := config.Load(config.Source{File: "testdata/flagstate.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"role: writer\n", "log.level: INFO\n", "events.token: REDACTED\n", "registry.password: \n", "interval.fetch_all: 1h0m0s\n",
		"database.postgres.url: postgres://flagstate:REDACTED@db.example.com:5432/flagstate?sslmode=disable\n",
	} {
		if !strings.Contains(c.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, c)
		}
	}
}

// Pushes are recorded by default only if nobody but the registry can report them.
func TestAuditPushes(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]bool{
		"":                                  false,
		"auth: {method: accounts, keys: k}": false,
		"events: {token: x}":                false,
		"auth: {method: accounts, keys: k}\nevents: {token: x}":                         true,
		"auth: {method: accounts, keys: k}\nevents: {token: x}\naudit: {pushes: false}": false,
		"audit: {pushes: true}": true,
	} {
		c, err := config.Load(config.Source{File: write(t, file), Environ: enough})
		if err != nil || c.Audit.Pushes != want {
			t.Errorf("%q: %v, %v, want %v", file, c.Audit.Pushes, err, want)
		}
	}
}

// The manual must name each key with its variable and its default.
func TestManual(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../doc/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range config.Keys() {
		if row := fmt.Sprintf("| `%s` | `%s` | ", k.Name, k.Env()); !strings.Contains(string(b), row) {
			t.Errorf("doc/configuration.md has no line that begins with %s", row)
		} else if row += "`" + k.Default + "` |"; k.Default != "" && !strings.Contains(string(b), row) {
			t.Errorf("doc/configuration.md has no line that begins with %s", row)
		}
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if key, ok := strings.CutPrefix(line, "| `"); ok {
			key, _, _ = strings.Cut(key, "`")
			known := false
			for _, k := range config.Keys() {
				known = known || k.Name == key
			}
			if !known {
				t.Errorf("doc/configuration.md describes %s, which is not a key", key)
			}
		}
	}
}

// No file may cause a panic, and a file that loads must load with the same result
// again.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{"role: reader", "a: &a [*a]", "registry: &r {registry: *r}", "? [a]\n: b", "database: &d {postgres: *d}", "log.level: warn\nscan:\n  parallelism: 3", "{", "a: *b", "--- |\n x", "search: {official_namespaces: [a, [b]]}", "? &k role\n: *k", "<<: {a: b}", "role: !x", "\xff"} {
		f.Add(s)
	}
	b, err := os.ReadFile("testdata/flagstate.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(b))
	file := filepath.Join(f.TempDir(), "portbook.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		src := config.Source{File: file, Environ: enough}
		c, err := config.Load(src)
		if err != nil {
			return
		}
		again, err := config.Load(src)
		if err != nil || !cmp.Equal(c, again) {
			t.Errorf("%q: got another result the second time: %v\n%s", text, err, cmp.Diff(c, again))
		}
	})
}

// For any URL, no connection may be made in plain text unless pgx also reads from the
// URL that no connection is to be encrypted.
func FuzzURL(f *testing.F) {
	for _, rest := range []string{
		"u:p@h/d", "u:p@h1:1,h2:2/d?sslmode=prefer", "u:?sslmode=disable@h/d", "u@h/d?sslmode=disable", "u@h/?sslmode=disable@x",
		"h/d?sslmode=disable&sslmode=allow", "h/d?ssl=true&sslmode=disable", "h/d?sslmode=disable&ssl=true", "h/d?%73slmode=disable", "[::1]:1/d?",
		"h?sslmode=disable", "h/d?sslmode=disable&", "h/d?sslmode= disable", "h/d#?sslmode=disable", "h/a?b?sslmode=disable", "%2Ftmp,h/d",
		"h/d?sslnegotiation=direct", "h/d?sslmode=disable&sslrootcert=system", "h/d?host=a,b&port=1,2", "h/d?SSLMODE=disable", "h/d?ssl=1",
	} {
		f.Add(rest)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		if strings.ContainsAny(rest, "\r\n\x00") || strings.Contains(rest, "service") || strings.Contains(rest, "cert") && !strings.Contains(rest, "sslrootcert=system") {
			return // this test is not about files
		}
		url := "postgres://" + rest
		c, err := config.Load(config.Source{Environ: []string{"PORTBOOK_REGISTRY_URL=http://r", "DB_URL=" + url}})
		if err != nil {
			return
		}
		used, err := pgconn.ParseConfig(c.Database.ConnString())
		if err != nil {
			t.Fatalf("%q is accepted but cannot be used: %v", url, err)
		}
		plain, encrypted := attempts(used)
		if plain && encrypted {
			t.Errorf("%q: connections are tried both with and without TLS", url)
		}
		own, err := pgconn.ParseConfig(strings.TrimSpace(url))
		if err != nil {
			return // such as sslmode=DISABLE
		}
		if _, wanted := attempts(own); plain && wanted {
			t.Errorf("%q requires TLS, but %q connects without it", url, c.Database.ConnString())
		}
	})
}

// attempts reports whether a configuration tries hosts without TLS, and whether it
// tries hosts with TLS. It ignores Unix sockets, which never use TLS.
func attempts(c *pgconn.Config) (plain, encrypted bool) {
	for _, a := range append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...) {
		network, _ := pgconn.NetworkAddress(a.Host, a.Port)
		plain = plain || network == "tcp" && a.TLSConfig == nil
		encrypted = encrypted || a.TLSConfig != nil
	}
	return plain, encrypted
}

// For a file that cannot be read, missing keys must not be reported.
func TestUnreadableFile(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{"absent": filepath.Join(t.TempDir(), "none.yaml"), "not YAML": write(t, "registry:\n  url: a\n role: x"), "two": write(t, "role: writer\n---\nrole: reader")} {
		_, err := config.Load(config.Source{File: file})
		if err == nil || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "required") {
			t.Errorf("%s: got %v, want only that the file %s cannot be read", name, err, file)
		}
	}
}

// data_dir is below the working directory, whatever the source says.
func TestDataDir(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"": "/work/data", "{CWD}/x": "/work/x", "y": "/work/y", "/srv/{CWD}": "/srv/work", "/srv/z/": "/srv/z",
	} {
		c, err := config.Load(config.Source{Dir: "/work", Environ: append(enough[:2:2], "DATA_DIR="+value)})
		if err != nil || c.DataDir != want {
			t.Errorf("DATA_DIR=%s: got %q, %v, want %q", value, c.DataDir, err, want)
		}
	}
	_, err := config.Load(config.Source{Environ: append(enough[:2:2], "DATA_DIR={HOME}/data")})
	const say = `data_dir: "{HOME}/data" has braces that are not {CWD}, the working directory: write the path` +
		` (environment DATA_DIR)`
	if fmt.Sprint(err) != say {
		t.Errorf("got %v, want %s", err, say)
	}
}
