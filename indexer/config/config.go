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
	"log/slog"
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
	Retention  Retention  `mapstructure:"retention"`
	Scan       Scan       `mapstructure:"scan"`
	Search     Search     `mapstructure:"search"`
	Flatpak    Flatpak    `mapstructure:"flatpak"`
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
//
// Load fills in SSLMode, TargetSessionAttrs and Passfile with what holds, also
// where a URL, a service file or a PG* variable says it.
type Database struct {
	Postgres Postgres `mapstructure:"postgres"`

	Host               string      `mapstructure:"host"`                            // names, addresses or directories of Unix sockets, with commas
	Port               int         `mapstructure:"port" min:"1" max:"65535"`        // of all hosts
	User               string      `mapstructure:"user"`                            // works with the tables
	MigrationUser      string      `mapstructure:"migrationUser"`                   // changes the schema; empty: User
	Password           string      `mapstructure:"password" secret:"true"`          // empty: PGPASSWORD, or the pgpass file
	MigrationPassword  string      `mapstructure:"migrationPassword" secret:"true"` // empty: the user's if the two are one, or the pgpass file
	Database           string      `mapstructure:"database"`
	SSLMode            string      `mapstructure:"sslMode" default:"require" oneof:"disable require verify-ca verify-full"`
	TargetSessionAttrs string      `mapstructure:"targetSessionAttrs" oneof:"any read-write read-only primary standby prefer-standby"`
	DynamicAuth        DynamicAuth `mapstructure:"dynamicAuth"`

	// PostgreSQL itself allows no more than 262143 connections (max_connections).
	MaxOpenConns    int           `mapstructure:"maxOpenConns" default:"25" min:"1" max:"262143"`
	MaxIdleConns    int           `mapstructure:"maxIdleConns" default:"5" min:"0" max:"262143"`
	ConnMaxLifetime time.Duration `mapstructure:"connMaxLifetime" default:"5m" min:"1"` // at 0 pgxpool would close each connection after one use
	MaxLag          time.Duration `mapstructure:"max_lag" default:"0"`                  // a standby further behind is not ready; zero: not checked
	MaxMetaSize     int           `mapstructure:"maxMetaSize" default:"262144" min:"1"` // bytes of labels and annotations of one image, as JSON

	// Two minutes are more than any migration so far needs.
	MigrationLockTimeout time.Duration `mapstructure:"migrationLockTimeout" default:"2m" min:"1"`

	// Passfile is where passwords are looked for that nothing else gives. It is no
	// key: PGPASSFILE, passfile in a URL, or .pgpass in the home directory.
	Passfile string `mapstructure:"-"`
	// PassfileFrom is what names that file, such as "environment PGPASSFILE", for
	// messages; empty: it is the one in the home directory, which need not be there.
	PassfileFrom string `mapstructure:"-"`
}

// DynamicAuth is a password that is made anew for each connection.
type DynamicAuth struct {
	AWSRDSIAM AWSRDSIAM `mapstructure:"awsRdsIam"`
}

// AWSRDSIAM is Amazon's: a token signed with the credentials of the workload.
type AWSRDSIAM struct {
	Region string `mapstructure:"region"` // or "detect"; empty: no dynamic passwords
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

// Interval is how often work is done that no event asks for. Zero: never. A
// registry that restarts loses the events that it had not sent, so a scan each hour
// is the default; it costs the registry one conditional HEAD for each tag.
type Interval struct {
	FetchAll       time.Duration `mapstructure:"fetch_all" default:"1h"`
	GarbageCollect time.Duration `mapstructure:"garbage_collect" default:"0"`
}

// Retention is how long is kept what no scan brings back. Zero: for ever.
type Retention struct {
	Events  time.Duration `mapstructure:"events" default:"90d"`
	History time.Duration `mapstructure:"history" default:"0"` // of tags
}

// Scan is how hard a scan may press the registry.
type Scan struct {
	Parallelism int `mapstructure:"parallelism" default:"8" min:"1" max:"256"` // requests at once
}

// Search is what search knows beyond the data.
type Search struct {
	OfficialNamespaces []string `mapstructure:"official_namespaces"` // docker search marks their repositories official
}

// Flatpak is what flatpak's index knows beyond the data.
type Flatpak struct {
	Owners []string `mapstructure:"owners"` // REF=REPOSITORY, both globs: from where a flatpak is served
}

// Log is what is logged, and how.
type Log struct {
	Level  slog.Level `mapstructure:"level" default:"info" oneof:"debug info warn error"`
	Format string     `mapstructure:"format" default:"text" oneof:"text json"`
}
