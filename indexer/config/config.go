// Package config reads the settings of the program from a YAML file, the
// environment and flags into one struct, and checks them before anything is opened.
//
// Every mistake is an error: an unknown key, a key given twice, a duration without
// a unit, two databases. All errors are reported together; each names the key, its
// source and what to write instead. Secrets are never printed.
package config

import (
	"log/slog"
	"time"
)

// A Role says what a process does.
type Role string

const (
	Writer Role = "writer" // receives events, scans and serves
	Reader Role = "reader" // only serves; may use a hot standby
)

// Config holds every setting. The fields define the keys: a new field is read from
// all sources, checked and printed, and a test requires a line for it in
// doc/configuration.md. The tags:
//
//	mapstructure  name of the key in the file
//	default       value if no source gives one
//	oneof         the values that are allowed
//	min, max      range of an integer; min of a duration is in nanoseconds
//	secret        "true": never printed; "url": printed without its password
type Config struct {
	Role       Role       `mapstructure:"role" default:"writer" oneof:"writer reader"`
	Registry   Registry   `mapstructure:"registry"`
	HTTP       HTTP       `mapstructure:"http"`
	Components Components `mapstructure:"components"`
	Auth       Auth       `mapstructure:"auth"`
	Events     Events     `mapstructure:"events"`
	Front      Front      `mapstructure:"front"`
	Internal   Internal   `mapstructure:"internal"`
	Audit      Audit      `mapstructure:"audit"`
	Webhooks   Webhooks   `mapstructure:"webhooks"`
	Database   Database   `mapstructure:"database"`
	Cache      Cache      `mapstructure:"cache"`
	Interval   Interval   `mapstructure:"interval"`
	Retention  Retention  `mapstructure:"retention"`
	Manage     Manage     `mapstructure:"manage"`
	Usage      Usage      `mapstructure:"usage"`
	Collect    Collect    `mapstructure:"collect"`
	Plans      Plans      `mapstructure:"plans"`
	Packages   Packages   `mapstructure:"packages"`
	Scan       Scan       `mapstructure:"scan"`
	Search     Search     `mapstructure:"search"`
	Flatpak    Flatpak    `mapstructure:"flatpak"`
	Storage    Storage    `mapstructure:"storage"`
	Redis      Redis      `mapstructure:"redis"`
	DataDir    string     `mapstructure:"data_dir" default:"{CWD}/data"` // made when it is first needed; {CWD}: Source.Dir
	Log        Log        `mapstructure:"log"`
	Errors     Errors     `mapstructure:"errors"`
}

// Registry is the registry that is indexed.
type Registry struct {
	URL       string `mapstructure:"url"`        // http or https; may be empty for a reader without registry_proxy
	PublicURL string `mapstructure:"public_url"` // in answers: a URL or an absolute path; default: URL
	Username  string `mapstructure:"username"`
	Password  string `mapstructure:"password" secret:"true"`
}

// HTTP has the addresses to listen on, as host:port. Port 0 means any free port.
type HTTP struct {
	Address           string `mapstructure:"address" default:"127.0.0.1:8080"`
	OperationsAddress string `mapstructure:"operations_address" default:"127.0.0.1:8081"`
}

// Components are optional parts, which are off by default.
type Components struct {
	WebUI          bool `mapstructure:"web_ui" default:"false"`
	AssertEndpoint bool `mapstructure:"assert_endpoint" default:"false"`
	RegistryProxy  bool `mapstructure:"registry_proxy" default:"false"`
	// ExperimentalOCI has extensions of the registry's API, which may change.
	ExperimentalOCI bool `mapstructure:"experimental_oci" default:"false"`
}

// A Method says how clients prove who they are.
type Method string

const (
	NoLogins    Method = "none"      // nobody logs in, and everybody sees everything
	Accounts    Method = "accounts"  // accounts in the database, with passwords and tokens
	OneToken    Method = "token"     // one token, to read and to write
	TwoTokens   Method = "tokens"    // a token to read and one to write
	GitHubToken Method = "github"    // tokens that GitHub gave to our application
	Delegated   Method = "delegated" // an API decides, to which we send on what clients send
)

// Auth says who may use the book and the registry.
type Auth struct {
	Method      Method `mapstructure:"method" default:"none" oneof:"none accounts token tokens github delegated"`
	LoginToRead bool   `mapstructure:"login_to_read" default:"false"` // even to read what everybody may see
	Keys        string `mapstructure:"keys"`                          // file with the keys that sign tokens for the registry
	Issuer      string `mapstructure:"issuer" default:"portbook"`     // of these: auth.token.issuer of the registry
	Service     string `mapstructure:"service" default:"registry"`    // their audience: auth.token.service of the registry

	Token      string       `mapstructure:"token" secret:"true"`       // with OneToken
	ReadToken  string       `mapstructure:"read_token" secret:"true"`  // with TwoTokens
	WriteToken string       `mapstructure:"write_token" secret:"true"` // with TwoTokens
	GitHub     AuthGitHub   `mapstructure:"github"`                    // with GitHubToken
	Delegate   AuthDelegate `mapstructure:"delegate"`                  // with Delegated

	Sessions Sessions `mapstructure:"sessions"` // with Accounts, in the browser

	OIDC        AuthOIDC        `mapstructure:"oidc"`         // with Accounts, in the browser
	GitHubLogin AuthGitHubLogin `mapstructure:"github_login"` // with Accounts, in the browser
}

// A SessionStore says where sessions of browsers are.
type SessionStore string

const (
	SignedSessions   SessionStore = "jwt"      // in the cookie, signed; the database has those that were ended
	MemorySessions   SessionStore = "memory"   // in this process
	PostgresSessions SessionStore = "postgres" // in the database
	RedisSessions    SessionStore = "redis"
)

// Sessions says where sessions of browsers are.
type Sessions struct {
	Store  SessionStore `mapstructure:"store" default:"jwt" oneof:"jwt memory postgres redis"`
	Redis  string       `mapstructure:"redis" secret:"url"`         // URL, with RedisSessions
	Prefix string       `mapstructure:"prefix" default:"portbook:"` // of keys in Redis
}

// AuthOIDC is a provider of OpenID Connect at which people sign in in the browser.
type AuthOIDC struct {
	Issuer       string   `mapstructure:"issuer"`
	ClientID     string   `mapstructure:"client_id"`
	ClientSecret string   `mapstructure:"client_secret" secret:"true"`
	Title        string   `mapstructure:"title" default:"OpenID Connect"`          // what people call it
	Scopes       []string `mapstructure:"scopes" default:"openid,profile"`         // that it is asked for
	NameClaim    string   `mapstructure:"name_claim" default:"preferred_username"` // names the account of who signs in first
	GroupsClaim  string   `mapstructure:"groups_claim" default:"groups"`           // has the groups of the person
	RedirectURL  string   `mapstructure:"redirect_url"`                            // default: below registry.public_url
}

// AuthGitHubLogin is an OAuth application of GitHub with which people sign in in the browser.
type AuthGitHubLogin struct {
	ClientID      string   `mapstructure:"client_id"`
	ClientSecret  string   `mapstructure:"client_secret" secret:"true"`
	URL           string   `mapstructure:"url" default:"https://github.com"`     // of its pages
	API           string   `mapstructure:"api" default:"https://api.github.com"` // of its API
	Organizations []string `mapstructure:"organizations"`                        // whose members may sign in; empty: everybody
	RedirectURL   string   `mapstructure:"redirect_url"`                         // default: below registry.public_url
}

// AuthGitHub is an OAuth application of GitHub.
type AuthGitHub struct {
	ClientID     string `mapstructure:"client_id"`
	ClientSecret string `mapstructure:"client_secret" secret:"true"`
	URL          string `mapstructure:"url" default:"https://api.github.com"` // of the API
}

// AuthDelegate is an API that decides who may do what, such as that of Deploys.app.
type AuthDelegate struct {
	URL       string `mapstructure:"url"`                       // its methods are below it
	Anonymous bool   `mapstructure:"anonymous" default:"false"` // asked about clients without credentials too
}

// Events says who may send notifications.
type Events struct {
	Token string `mapstructure:"token" secret:"true"` // empty: everybody
}

// Front says which front may ask what it may pass on to the registry.
type Front struct {
	Token string `mapstructure:"token" secret:"true"` // empty: none
}

// Internal says who may request jobs by /internal/.
type Internal struct {
	Secret string `mapstructure:"secret" secret:"true"` // empty: everybody, if only this machine can reach HTTP.Address; else nobody
}

// Audit says what is recorded in the audit log.
type Audit struct {
	Pushes bool `mapstructure:"pushes" default:"false"` // and deletions, as the registry reports them; default: with Auth.Keys
}

// Database says where the database is and how to use it. Its address is given by
// Postgres.URL, by Host and the fields after it, or by libpq's PG* variables.
//
// Load sets SSLMode, TargetSessionAttrs and Passfile to their effective values, even
// if they come from a URL, a service file or a PG* variable.
type Database struct {
	Postgres Postgres `mapstructure:"postgres"`

	Host               string      `mapstructure:"host"`                            // names, addresses or socket directories, separated by commas
	Port               int         `mapstructure:"port" min:"1" max:"65535"`        // of all hosts
	User               string      `mapstructure:"user"`                            // reads and writes the tables
	MigrationUser      string      `mapstructure:"migrationUser"`                   // changes the schema; empty: User
	Password           string      `mapstructure:"password" secret:"true"`          // empty: PGPASSWORD, or the pgpass file
	MigrationPassword  string      `mapstructure:"migrationPassword" secret:"true"` // empty: Password if both users are the same, or the pgpass file
	Database           string      `mapstructure:"database"`
	SSLMode            string      `mapstructure:"sslMode" default:"require" oneof:"disable require verify-ca verify-full"`
	TargetSessionAttrs string      `mapstructure:"targetSessionAttrs" oneof:"any read-write read-only primary standby prefer-standby"`
	DynamicAuth        DynamicAuth `mapstructure:"dynamicAuth"`

	// PostgreSQL itself allows no more than 262143 connections (max_connections).
	MaxOpenConns    int           `mapstructure:"maxOpenConns" default:"25" min:"1" max:"262143"`
	MaxIdleConns    int           `mapstructure:"maxIdleConns" default:"5" min:"0" max:"262143"`
	ConnMaxLifetime time.Duration `mapstructure:"connMaxLifetime" default:"5m" min:"1"` // pgxpool would use each connection once at 0
	MaxLag          time.Duration `mapstructure:"max_lag" default:"0"`                  // a standby with a larger lag is not ready; 0: no limit
	MaxMetaSize     int           `mapstructure:"maxMetaSize" default:"262144" min:"1"` // bytes of one image's labels and annotations, as JSON

	// Two minutes are more than any migration so far needs.
	MigrationLockTimeout time.Duration `mapstructure:"migrationLockTimeout" default:"2m" min:"1"`

	// Passfile is the pgpass file, which is searched for passwords that are not set. It
	// comes from PGPASSFILE or the URL; the default is .pgpass in the home directory.
	Passfile string `mapstructure:"-"`
	// PassfileFrom is the source of Passfile for messages, such as "environment
	// PGPASSFILE". It is empty for the default, which need not exist.
	PassfileFrom string `mapstructure:"-"`
}

// DynamicAuth creates a new password for each connection.
type DynamicAuth struct {
	AWSRDSIAM AWSRDSIAM `mapstructure:"awsRdsIam"`
}

// AWSRDSIAM uses tokens of AWS IAM, signed with the credentials of the workload.
type AWSRDSIAM struct {
	Region string `mapstructure:"region"` // a region or "detect"; empty: off
}

// Postgres has the address of the database as a URL.
type Postgres struct {
	URL string `mapstructure:"url" secret:"url"`
}

// Cache has the max-age of answers. With 0, caches must revalidate each time.
type Cache struct {
	MaxAgeIndex time.Duration `mapstructure:"max_age_index" default:"0"`
	MaxAgeHTML  time.Duration `mapstructure:"max_age_html" default:"0"`
}

// Interval has the intervals of periodic work; 0 turns it off. A registry that
// restarts loses the events that it has not sent, so the default is a scan each hour,
// which costs the registry one conditional HEAD for each tag.
type Interval struct {
	FetchAll       time.Duration `mapstructure:"fetch_all" default:"1h"`
	GarbageCollect time.Duration `mapstructure:"garbage_collect" default:"0"`
}

// Retention says how long to keep data that a scan cannot restore; 0: for ever.
type Retention struct {
	Events  time.Duration `mapstructure:"events" default:"90d"`
	History time.Duration `mapstructure:"history" default:"0"`  // of tags
	Usage   time.Duration `mapstructure:"usage" default:"400d"` // by day; totals stay
}

// Collect is the garbage collection of blobs, by the sweep of the registry.
type Collect struct {
	Sweep   string        `mapstructure:"sweep"`                          // URL of registry sweep serve; empty: off
	Token   string        `mapstructure:"token" secret:"true"`            // that of its --token-file
	Delete  bool          `mapstructure:"delete" default:"false"`         // otherwise it only looks
	Look    time.Duration `mapstructure:"look" default:"6h" min:"1"`      // from one look to the next
	Observe time.Duration `mapstructure:"observe" default:"168h" min:"1"` // for which it looks before it deletes
	Delay   time.Duration `mapstructure:"delay" default:"168h" min:"1"`   // for which a blob must be unused and unlinked
	Trash   time.Duration `mapstructure:"trash" default:"24h" min:"1"`    // for which a blob stays in the trash
}

// Scan limits the load of a scan on the registry.
type Scan struct {
	Parallelism int `mapstructure:"parallelism" default:"8" min:"1" max:"256"` // concurrent requests
}

// Search has settings of searches.
type Search struct {
	OfficialNamespaces []string `mapstructure:"official_namespaces"` // docker search marks repositories in them as official

	// Whether searches are answered from a copy of the search rows in memory, and the most
	// bytes of that copy. Without it, or if it does not fit, they use the database.
	Memory      bool `mapstructure:"memory" default:"true"`
	MemoryLimit int  `mapstructure:"memory_limit" default:"1073741824" min:"1"`
}

// Flatpak has settings of flatpak's index.
type Flatpak struct {
	Owners []string `mapstructure:"owners"` // REF=REPOSITORY, two globs: the repository that serves a flatpak
}

// Errors says where errors of the program are reported.
type Errors struct {
	SentryDSN string `mapstructure:"sentry_dsn" secret:"true"` // of a server that speaks Sentry's protocol; empty: nowhere
}

// Log has settings of the log.
type Log struct {
	Level  slog.Level `mapstructure:"level" default:"info" oneof:"debug info warn error"`
	Format string     `mapstructure:"format" default:"text" oneof:"text json"`
	Access bool       `mapstructure:"access" default:"true"` // one line for each request of http.address
}
