package launch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"text/template"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/schema/localpg/process"
)

// database is the name of the database in our PostgreSQL.
const database = "portbook"

// databaseVariables may name a database to use instead of ours. The first that is set
// is used.
var databaseVariables = []string{"PORTBOOK_DATABASE_POSTGRES_URL", "DATABASE_URL", "DB_URL"}

// startDatabase uses the database of the environment, or starts one.
func (s *system) startDatabase(ctx context.Context) error {
	for _, name := range databaseVariables {
		if url := s.getenv(name); url != "" {
			return s.useDatabase(name, url)
		}
	}
	programs, err := s.findPostgres(ctx)
	if err != nil {
		return err
	}
	s.out.print("Starting PostgreSQL")
	s.postgres, err = localpg.Start(ctx, localpg.Config{
		Dir: s.data.path(postgresName), Durable: true, Log: s.out.log("postgres"),
		BinDir: programs.binDir, Env: programs.env,
	})
	if err != nil {
		return err
	}
	s.databaseURL = s.postgres.URL(database)
	s.hidePassword(s.databaseURL)
	return s.postgres.EnsureDatabase(ctx, database)
}

// useDatabase uses the database at url, and prints its address without the password.
func (s *system) useDatabase(variable, url string) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("%s: %w", variable, err) // pgx leaves the password out of its errors
	}
	s.databaseURL = url
	s.hidePassword(url)
	s.out.hide(cfg.Password)
	s.out.print("Using the database of %s: %s on %s, port %d, as %s", variable, cfg.Database, cfg.Host, cfg.Port, cfg.User)
	return nil
}

// hidePassword hides the password of a URL in its escaped form.
func (s *system) hidePassword(address string) {
	if u, err := url.Parse(address); err == nil && u.User != nil {
		_, escaped, _ := strings.Cut(u.User.String(), ":")
		s.out.hide(escaped)
	}
}

// startRegistry starts the registry with a copy of registry/config/filesystem.yml, or of
// token.yml if clients log in, that its account can read, or with a configuration for the storage
// that the environment names. Settings of this start are
// environment variables, since all users can see a command line.
func (s *system) startRegistry(ctx context.Context) error {
	// Only now: the user postgres may have come with PostgreSQL.
	var err error
	if s.account, err = process.Unprivileged(); err != nil {
		return err
	}
	if err := s.account.Own(s.data.path(registryName)); err != nil {
		return err
	}
	token, err := s.data.token()
	if err != nil {
		return err
	}
	s.out.hide(token)
	name, ready := "filesystem.yml", "/v2/"
	var auth []string
	if s.cfg.Auth {
		if err := s.makeKeys(ctx); err != nil {
			return err
		}
		name, ready, auth = "token.yml", "/", s.registryAuth() // without a token /v2/ answers 401
	}
	config, env, err := s.registryFile(ctx, name)
	if err != nil {
		return err
	}
	if err := s.data.writeFile(s.account, registryConfigName, config); err != nil {
		return err
	}
	s.out.print("Starting the registry")
	s.registry, err = s.startChild("registry", "registry", append(slices.Concat(auth, env),
		"REGISTRY_HTTP_ADDR="+s.registryAddr,
		"REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL=http://"+s.local()+"/events",
		`REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS={Authorization: ["Bearer `+token+`"]}`,
		"REGISTRY_NOTIFICATIONS_ENDPOINTS_1_DISABLED=false",
		"REGISTRY_NOTIFICATIONS_ENDPOINTS_1_URL=http://"+s.local()+"/events",
		`REGISTRY_NOTIFICATIONS_ENDPOINTS_1_HEADERS={Authorization: ["Bearer `+token+`"]}`,
		// Uploads of blobs, in a queue of their own: see doc/manage.md, "Loose blobs".
		"REGISTRY_NOTIFICATIONS_ENDPOINTS_2_NAME=blobs",
		"REGISTRY_NOTIFICATIONS_ENDPOINTS_2_URL=http://"+s.local()+"/events",
		`REGISTRY_NOTIFICATIONS_ENDPOINTS_2_HEADERS={Authorization: ["Bearer `+token+`"]}`,
		"REGISTRY_NOTIFICATIONS_ENDPOINTS_2_IGNORE="+onlyBlobs,
		// Otherwise each of our reads would be a line in the logs.
		"REGISTRY_LOG_ACCESSLOG_DISABLED=true",
	), "serve", s.data.path(registryConfigName))
	if err != nil {
		return err
	}
	return s.registry.waitReady(ctx, "http://"+s.registryAddr+ready)
}

// onlyBlobs is what the endpoint for uploads of blobs does not receive.
const onlyBlobs = "{actions: [pull, delete], mediatypes: [application/vnd.oci.image.manifest.v1+json," +
	" application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json," +
	" application/vnd.docker.distribution.manifest.list.v2+json]}"

// indexerConfig is the configuration of the indexer. Values are JSON strings, which are
// valid YAML.
var indexerConfig = template.Must(template.New("").Parse(`# Written by make up at each start; changes are lost.
# Set PORTBOOK_<KEY> in the environment of make up instead, with _ for each dot.
registry:
  url: {{.Registry}}
  public_url: {{.Public}}
http:
  address: {{.Address}}
  operations_address: {{.Operations}}
components:
  web_ui: true
  registry_proxy: true
auth:
{{- if .Keys}}
  method: accounts
  keys: {{.Keys}}
{{- else}}
  method: none
{{- end}}
events:
  token: {{.Token}}
database:
  postgres:
    url: {{.Database}}
data_dir: {{.Files}}
interval:
  fetch_all: 1h
  garbage_collect: 30m
log:
  format: text
`))

// startIndexer starts the indexer, which migrates the database first.
func (s *system) startIndexer(ctx context.Context) error {
	config, err := s.indexerConfig()
	if err != nil {
		return err
	}
	if err := s.data.writeFile(s.account, indexerConfigName, config); err != nil {
		return err
	}
	s.out.print("Starting the indexer")
	s.indexer, err = s.startChild("indexer", "portbook", s.passedOn(), "serve", "--config", s.data.path(indexerConfigName))
	if err != nil {
		return err
	}
	return s.indexer.waitReady(ctx, "http://"+s.operationsAddr+"/readyz")
}

func (s *system) indexerConfig() ([]byte, error) {
	token, err := s.data.token()
	if err != nil {
		return nil, err
	}
	values := map[string]string{
		"Registry": "http://" + s.registryAddr, "Address": s.cfg.Addr, "Operations": s.operationsAddr,
		"Token": token, "Database": s.databaseURL, "Files": s.data.path(filesName), "Public": "http://" + s.local(),
	}
	if s.cfg.Auth {
		values["Keys"] = s.data.path(keysName)
	}
	for key, value := range values {
		quoted, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		values[key] = string(quoted)
	}
	var b bytes.Buffer
	err = indexerConfig.Execute(&b, values)
	return b.Bytes(), err
}

// passedOn returns the environment of the indexer: its own settings, except for the
// database, which is in its file.
func (s *system) passedOn() []string {
	var env []string
	for _, pair := range s.cfg.Environ {
		name, _, _ := strings.Cut(pair, "=")
		ours := strings.HasPrefix(name, "PORTBOOK_") && !hasPrefix(name, storagePrefixes)
		if ours && name != databaseVariables[0] && name != localpg.SharedVariable {
			env = append(env, pair)
		}
	}
	return env
}

// pushSamples pushes the sample images to the address of clients if the registry is
// empty, and waits until a search finds one, so that the first search of a newcomer
// has a result.
func (s *system) pushSamples(ctx context.Context) error {
	if !s.cfg.Samples {
		return nil
	}
	var login Login
	if s.cfg.Auth {
		if s.password == "" {
			return nil // not the first start, and we cannot log in
		}
		login = Login{administrator, s.password}
	} else if empty, err := s.registryEmpty(ctx); err != nil || !empty {
		return err
	}
	s.out.print("Pushing sample images")
	base := "http://" + s.local()
	if err := push.Samples(ctx, login.pusher(s.local())); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := poll(ctx, s.indexer.Done(), func() bool { return login.found(ctx, base, "lighthouse") }); err != nil {
		return fmt.Errorf("search does not find the sample images %v after their push; the indexer's last lines: %s",
			readyTimeout, s.out.clean(s.indexer.Tail()))
	}
	return nil
}

func (s *system) registryEmpty(ctx context.Context) (bool, error) {
	b, err := fetch(ctx, "http://"+s.registryAddr+"/v2/_catalog?n=1")
	if err != nil {
		return false, err
	}
	var catalog struct{ Repositories []string }
	err = json.Unmarshal(b, &catalog)
	return len(catalog.Repositories) == 0, err
}

// found reports whether a search for term has a result.
func (l Login) found(ctx context.Context, base, term string) bool {
	b, err := l.fetch(ctx, base+"/v1/search?q="+url.QueryEscape(term))
	var answer struct {
		NumResults int `json:"num_results"`
	}
	return err == nil && json.Unmarshal(b, &answer) == nil && answer.NumResults > 0
}
