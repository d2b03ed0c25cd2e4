// Package config is what an operator may decide: one struct, read once by main
// from a YAML file, the environment and flags, checked before anything is
// opened, and printed at start without secrets.
//
// It promises that a mistake is never taken in silence: an unknown key, a key
// given twice, a duration without a unit and a second database are errors that
// name the key, where it was written and what to write instead, all of them at
// once. What the settings do is left to the packages that get them.
package config

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// A Role says what one process of the indexer does.
type Role string

const (
	Writer Role = "writer" // takes events, scans and serves
	Reader Role = "reader" // only serves; may stand on a hot standby
)

// Config holds every setting. This struct is the table of keys: a field added
// here is read from all sources, checked and printed, and its line in
// doc/configuration.md is asked for by a test. The tags:
//
//	mapstructure  the key's name in the file
//	default       its value when it is given nowhere
//	oneof         the values it may have
//	min, max      the range of an integer; min also the least nanoseconds of a duration
//	secret        "true": never printed; "url": printed without its password
type Config struct {
	Role       Role       `mapstructure:"role" default:"writer" oneof:"writer reader"`
	Registry   Registry   `mapstructure:"registry"`
	HTTP       HTTP       `mapstructure:"http"`
	Components Components `mapstructure:"components"`
	Events     Events     `mapstructure:"events"`
	Database   Database   `mapstructure:"database"`
	Cache      Cache      `mapstructure:"cache"`
	Interval   Interval   `mapstructure:"interval"`
	Scan       Scan       `mapstructure:"scan"`
	Search     Search     `mapstructure:"search"`
	Log        Log        `mapstructure:"log"`
}

// Registry is the registry that is read, and what clients are told of it.
type Registry struct {
	URL       string `mapstructure:"url"`        // absolute http or https; empty only for a reader that is no proxy
	PublicURL string `mapstructure:"public_url"` // what answers say; a URL or a path from the root; URL when not given
	Username  string `mapstructure:"username"`
	Password  string `mapstructure:"password" secret:"true"`
}

// HTTP is where to listen, as host:port. Port 0 is any free port, for tests.
type HTTP struct {
	Address           string `mapstructure:"address" default:"127.0.0.1:8080"`
	OperationsAddress string `mapstructure:"operations_address" default:"127.0.0.1:8081"`
}

// Components are parts that are off until they are asked for.
type Components struct {
	WebUI          bool `mapstructure:"web_ui" default:"false"`
	AssertEndpoint bool `mapstructure:"assert_endpoint" default:"false"`
	RegistryProxy  bool `mapstructure:"registry_proxy" default:"false"`
}

// Events is who may send notifications.
type Events struct {
	Token string `mapstructure:"token" secret:"true"` // empty: anyone who reaches the address
}

// Database says where the database is, by URL or by parts but never both, and
// how it is used. With neither, libpq's PG* variables say where it is.
type Database struct {
	Postgres Postgres `mapstructure:"postgres"`

	Host     string `mapstructure:"host"` // a name, an address or the directory of a Unix socket
	Port     int    `mapstructure:"port" min:"1" max:"65535"`
	User     string `mapstructure:"user"`
	Password string `mapstructure:"password" secret:"true"` // empty: PGPASSWORD, or the pgpass file
	Database string `mapstructure:"database"`
	SSLMode  string `mapstructure:"sslMode" default:"require" oneof:"disable require verify-ca verify-full"`

	// PostgreSQL itself allows no more than 262143 connections (max_connections).
	MaxOpenConns    int           `mapstructure:"maxOpenConns" default:"25" min:"1" max:"262143"`
	MaxIdleConns    int           `mapstructure:"maxIdleConns" default:"5" min:"0" max:"262143"`
	ConnMaxLifetime time.Duration `mapstructure:"connMaxLifetime" default:"5m" min:"1"` // at 0 pgxpool would close each connection after one use
	MaxMetaSize     int           `mapstructure:"maxMetaSize" default:"262144" min:"1"` // bytes of labels and annotations of one image, as JSON
}

// Postgres is the database as one URL.
type Postgres struct {
	URL string `mapstructure:"url" secret:"url"`
}

// Cache is how long others may keep answers. Zero: they ask each time.
type Cache struct {
	MaxAgeIndex time.Duration `mapstructure:"max_age_index" default:"0"`
	MaxAgeHTML  time.Duration `mapstructure:"max_age_html" default:"0"`
}

// Interval is how often work is done that no event asks for. Zero: never.
type Interval struct {
	FetchAll       time.Duration `mapstructure:"fetch_all" default:"0"`
	GarbageCollect time.Duration `mapstructure:"garbage_collect" default:"0"`
}

// Scan is how hard a scan may press the registry.
type Scan struct {
	Parallelism int `mapstructure:"parallelism" default:"8" min:"1" max:"256"` // requests at once
}

// Search is what search knows beyond the data.
type Search struct {
	OfficialNamespaces []string `mapstructure:"official_namespaces"` // docker search marks their repositories official
}

// Log is what is logged, and how.
type Log struct {
	Level  slog.Level `mapstructure:"level" default:"info" oneof:"debug info warn error"`
	Format string     `mapstructure:"format" default:"text" oneof:"text json"`
}

// ConnString gives what pgxpool.ParseConfig takes: the URL as it was given, or
// the parts as keywords. With neither it is empty, and pgx reads PG* variables.
//
// Keywords rather than a URL: a socket directory, an IPv6 zone or a slash in a
// name need no special care. TLS is checked against the host that stands here;
// the ToolHive server parses "localhost" first and sets the host afterwards,
// so its verify-full refuses every other name (measured).
func (d Database) ConnString() string {
	if d.Postgres.URL != "" || d.Host == "" {
		return d.Postgres.URL
	}
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	s := fmt.Sprintf("host='%s' port=%d user='%s' dbname='%s' sslmode='%s'",
		quote.Replace(d.Host), d.Port, quote.Replace(d.User), quote.Replace(d.Database), quote.Replace(d.SSLMode))
	if d.Password != "" { // an empty one would keep pgx from looking at PGPASSWORD and the pgpass file
		s += fmt.Sprintf(" password='%s'", quote.Replace(d.Password))
	}
	return s
}
