package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer/config"
)

// Each variable and key of another system has the value that it has there, in the key that says
// the same here.
func TestTheirs(t *testing.T) {
	t.Parallel()
	address := func(c config.Config) any { return c.HTTP.Address }
	const browser = "registry: {public_url: 'https://h'}\nauth: {method: accounts, keys: k}\n"
	for _, test := range []struct {
		name    string
		file    string
		environ []string
		flags   map[string]string
		of      func(config.Config) any
		want    any
	}{
		{"address and port", "", []string{"ADDRESS=127.0.0.2", "PORT=25999"}, nil, address, "127.0.0.2:25999"},
		{"port alone", "", []string{"PORT=80"}, nil, address, "127.0.0.1:80"},
		{"address alone", "", []string{"ADDRESS=::1"}, nil, address, "[::1]:8080"},
		{"brackets", "", []string{"ADDRESS=[::1]"}, nil, address, "[::1]:8080"},
		{"host", "", []string{"ADDRESS=localhost"}, nil, address, "localhost:8080"},
		{"over half of the file", "http: {address: '127.0.0.3:1'}", []string{"PORT=2"}, nil, address, "127.0.0.3:2"},
		{"below a flag", "", []string{"PORT=2"}, map[string]string{"http-address": "127.0.0.1:3"}, address, "127.0.0.1:3"},
		{"the same twice", "", []string{"PORT=2", "PORTBOOK_HTTP_ADDRESS=127.0.0.1:2"}, nil, address, "127.0.0.1:2"},
		{"level", "log: {level: error}", []string{"LOG_LEVEL=WARN"}, nil, func(c config.Config) any { return c.Log.Level }, "WARN"},
		{
			"secret", "", []string{"INTERNAL_SECRET=s"}, nil,
			func(c config.Config) any { return c.Internal.Secret }, "s",
		},
		{
			"directory", "", []string{"FS_STORAGE_ROOT=/srv"}, nil,
			func(c config.Config) any { return c.Storage.Filesystem.RootDirectory }, "/srv",
		},
		{
			"S3", "", []string{
				"S3_ENDPOINT=http://s3", "S3_BUCKET_NAME=b", "S3_REGION=r", "S3_ACCESS_KEY=a", "S3_SECRET_KEY=s", "FS_STORAGE_ROOT=/srv",
			}, nil,
			func(c config.Config) any { return fmt.Sprint(c.Storage.S3, " ", c.Storage.Type()) }, "{http://s3 b r a s} s3",
		},
		{"bucket", "", []string{"BUCKET_NAME=b"}, nil, func(c config.Config) any { return c.Storage.GCS.Bucket }, "b"},
		{
			"addr of Redis", "redis: {addr: 'localhost:6379', password: '', db: 0}", nil, nil,
			func(c config.Config) any { return fmt.Sprint(c.Redis.Addrs, " ", c.Storage.Cache.BlobDescriptor) }, "[localhost:6379] redis",
		},
		{"pages", "webmanagement: {enabled: true}", nil, nil, func(c config.Config) any { return c.Components.WebUI }, "true"},
		{
			"pages by variable", "", []string{"PORTBOOK_WEBMANAGEMENT_ENABLED=true"}, nil,
			func(c config.Config) any { return c.Components.WebUI }, "true",
		},
		{
			"sign-in", browser + "webmanagement: {enabled: true, oauth: {github: {clientid: i, clientsecret: s}}}", nil, nil,
			func(c config.Config) any { return c.Auth.GitHubLogin.ClientID + c.Auth.GitHubLogin.ClientSecret }, "is",
		},
		{
			"audit", "audit: {enabled: true, database: {type: postgresql, dsn: postgres://h/d}}", []string{"PGHOST="}, nil,
			func(c config.Config) any { return fmt.Sprint(c.Audit.Pushes, " ", c.Database.Postgres.URL) }, "true postgres://h/d",
		},
		{
			"accounts", "auth: {database: {type: postgres, dsn: postgres://h/d}}", []string{"PGHOST="}, nil,
			func(c config.Config) any { return c.Database.Postgres.URL }, "postgres://h/d",
		},
	} {
		src := config.Source{Environ: append(enough[:2:2], test.environ...), Flags: test.flags}
		if test.file != "" {
			src.File = write(t, test.file)
		}
		c, err := config.Load(src)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if got := fmt.Sprint(test.of(c)); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

// What cannot work is refused, with what to do instead.
func TestTheirsRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		file    string
		environ []string
		want    string
	}{
		{"address with port", "", []string{"ADDRESS=h:80"}, `ADDRESS: "h:80" is not an address without a port: write one such as 127.0.0.1 (environment ADDRESS)`},
		{"port", "", []string{"PORT=65536"}, `PORT: "65536" is not a port: write 0 to 65535 (environment PORT)`},
		{"two addresses", "", []string{"PORT=2", "PORTBOOK_HTTP_ADDRESS=127.0.0.1:3"}, `http.address is set twice, by environment PORTBOOK_HTTP_ADDRESS and by environment PORT: keep one`},
		{"two levels", "", []string{"LOG_LEVEL=info", "PORTBOOK_LOG_LEVEL=warn"}, `log.level is set twice, by environment LOG_LEVEL and by environment PORTBOOK_LOG_LEVEL: keep one`},
		{"CDN", "webmanagement: {cdn: {enabled: true, headers: {a: b}}}", nil, `webmanagement.cdn is not supported: nothing here sends content through a CDN`},
		{"CDN by variable", "", []string{"PORTBOOK_WEBMANAGEMENT_CDN_BASEURL=x"}, `webmanagement.cdn is not supported: nothing here sends content through a CDN`},
		{"callback", "webmanagement: {oauth: {github: {redirecturl: 'https://h/api/v1/auth/callback'}}}", nil, `webmanagement.oauth.github.redirecturl is not supported: GitHub sends browsers back to /account/callback/github here`},
		{"type", "audit: {database: {type: mysql}}", nil, `audit.database.type: "mysql" is not supported: write postgresql, or remove it (file FILE:1)`},
		{"two databases", "audit: {database: {dsn: postgres://h/a}}\ndatabase: {postgres: {url: postgres://h/b}}", []string{"PGHOST="}, `database.postgres.url is set twice, by file FILE:1 and by file FILE:2: keep one`},
		{"typo in their section", "webmanagement: {enable: true}", nil, `unknown key "webmanagement.enable" (file FILE:1)`},
	} {
		src := config.Source{Environ: append(enough[:2:2], test.environ...)}
		if test.file != "" {
			src.File = write(t, test.file)
		}
		_, err := config.Load(src)
		if want := strings.ReplaceAll(test.want, "FILE", src.File); !strings.HasPrefix(fmt.Sprint(err), want) ||
			strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: got\n%v, want\n%s", test.name, err, want)
		}
	}
}

// The storage of a registry is one, and whole.
func TestStorage(t *testing.T) {
	t.Parallel()
	for environ, want := range map[string]string{
		"": "no storage backend configured: set storage.filesystem.rootdirectory (FS_STORAGE_ROOT), storage.s3" +
			" (S3_BUCKET_NAME and the variables beside it), storage.gcs.bucket (BUCKET_NAME) or storage.azure",
		"S3_ENDPOINT=http://h": "storage.s3.bucket is required with storage.s3.regionendpoint: set it (environment S3_ENDPOINT)",
		"S3_ENDPOINT=h S3_BUCKET_NAME=b": `storage.s3.regionendpoint: "h" is not a URL of an API: write http://host:port or` +
			` https://host (environment S3_ENDPOINT)`,
		"S3_BUCKET_NAME=b": "storage.s3.region is required without storage.s3.regionendpoint: set it to the region of the" +
			" bucket, such as eu-central-1",
		"S3_BUCKET_NAME=b S3_REGION=r S3_SECRET_KEY=s": "storage.s3.accesskey and storage.s3.secretkey go together: set both or" +
			" neither (environment S3_SECRET_KEY)",
		"FS_STORAGE_ROOT=/a BUCKET_NAME=b": "storage.filesystem.rootdirectory and storage.gcs.bucket are two storages, and a" +
			" registry has one: remove one (environment FS_STORAGE_ROOT) (environment BUCKET_NAME)",
		"PORTBOOK_STORAGE_AZURE_CONTAINER=c": "storage.azure.accountname is required with storage.azure.container: set it" +
			" (environment PORTBOOK_STORAGE_AZURE_CONTAINER)",
		"FS_STORAGE_ROOT=/a PORTBOOK_STORAGE_CACHE_BLOBDESCRIPTOR=redis": "redis.addrs is required with" +
			" storage.cache.blobdescriptor redis: set it to host:port (environment PORTBOOK_STORAGE_CACHE_BLOBDESCRIPTOR)",
		"FS_STORAGE_ROOT=/a PORTBOOK_STORAGE_CACHE_BLOBDESCRIPTOR=none PORTBOOK_REDIS_ADDR=h:1": "redis.addrs is used only with" +
			" storage.cache.blobdescriptor redis, and that is none: set it to redis, or remove redis.addrs (environment" +
			" PORTBOOK_REDIS_ADDR)",
		"FS_STORAGE_ROOT=/a PORTBOOK_REDIS_ADDR=h": `redis.addrs: "h" is not an address: write host:port such as` +
			` 127.0.0.1:6379 (environment PORTBOOK_REDIS_ADDR)`,
		"S3_ENDPOINT=http://h S3_BUCKET_NAME=b FS_STORAGE_ROOT=/a": "<nil>", // S3 wins
		"BUCKET_NAME=b PORTBOOK_REDIS_ADDRS=h:1":                   "<nil>",
	} {
		_, err := config.Load(config.Source{ForRegistry: true, Environ: strings.Fields(environ)})
		if fmt.Sprint(err) != want {
			t.Errorf("%s: got\n%v, want\n%s", environ, err, want)
		}
	}
}

// A file .env gives what the environment does not have, and nothing else.
func TestDotEnv(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, ".env")
	set := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	load := func(environ ...string) (config.Config, error) {
		return config.Load(config.Source{Dir: dir, Environ: append(enough[:2:2], environ...)})
	}
	set("# comment\n\nexport PORT=2 # here\r\nADDRESS = '127.0.0.2'\nINTERNAL_SECRET='a$b # \\'\n"+
		"PORTBOOK_EVENTS_TOKEN=\"a\\\"\\$b\\\\\"\nLOG_LEVEL=error\nOTHER=\"two\nLINES=$X\"\nOTHER=a\nOTHER=b\nDATA_DIR=\n", 0o644)
	c, err := load("LOG_LEVEL=")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(c.HTTP.Address, " ", c.Internal.Secret, " ", c.Events.Token, " ", c.Log.Level, " ", c.DataDir)
	if want := "127.0.0.2:2 a$b # \\ a\"$b\\ INFO " + dir + "/data"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	set("INDEX_REPO_URL=https://git.example.com/index.git\nCOMMITTER_GIT_NAME=\"index updater\"\n", 0o600)
	if c, err := load(); err != nil || !c.Packages.Enabled || c.Packages.CommitterName != "index updater" {
		t.Errorf("packages %+v, %v", c.Packages, err)
	}
	set("PORT=2\nADDRESS=127.0.0.2\n", 0o600)
	if c, err := load("PORT=3"); err != nil || c.HTTP.Address != "127.0.0.2:3" {
		t.Errorf("got address %s, %v: the environment must count more than the file", c.HTTP.Address, err)
	}
	for text, want := range map[string]string{
		"PORT=x":                      `PORT: "x" is not a port: write 0 to 65535 (environment PORT of FILE:1)`,
		"\nnonsense":                  "FILE:2: not a variable: write NAME=value, or # before a comment",
		"PORT=1\nPORT=1":              "FILE:2: PORT is set twice, here and at FILE:1: keep one",
		"PORTBOOK_X=secret":           "unknown environment variable PORTBOOK_X of FILE:1: did you mean PORTBOOK_ROLE?",
		"INTERNAL_SECRET=a$secret":    "FILE:1: INTERNAL_SECRET: variables in values are not replaced (value not shown): put the value in single quotes if the $ belongs to it, or write out what it stands for",
		`INTERNAL_SECRET="a${secret`:  "FILE:1: INTERNAL_SECRET: the quote does not end (value not shown): end it",
		"INTERNAL_SECRET='a'secret":   "FILE:1: INTERNAL_SECRET: there is text after the quote (value not shown): put the whole value in quotes",
		"ACCESS_TOKEN=":               "ACCESS_TOKEN is set, but empty: give it a value, or do not set it (environment ACCESS_TOKEN of FILE:1)",
		strings.Repeat("#", 64<<10+1): "FILE: more than 65536 bytes: keep only variables in it",
	} {
		set(text, 0o600)
		if _, err := load(); fmt.Sprint(err) != strings.ReplaceAll(want, "FILE", file) {
			t.Errorf("%.40q: got\n%v, want\n%s", text, err, want)
		}
	}
	set("PORT=1", 0o620)
	if _, err := load(); err == nil || !strings.Contains(err.Error(), "can be written by others (mode 0620)") {
		t.Errorf("a file that the group can write: got %v", err)
	}
	if os.Geteuid() == 0 {
		set("PORT=1", 0o644)
		if err := os.Chown(file, 12345, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := load(); err == nil || !strings.Contains(err.Error(), "belongs neither to the user") {
			t.Errorf("a file of somebody else: got %v", err)
		}
	}
}

// A folder of this name, as Python has them, is no file with variables.
func TestDotEnvFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".env"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(config.Source{Dir: dir, Environ: enough}); err != nil {
		t.Error(err)
	}
}

// always are the sections, and keys without one, of what every installation has.
var always = []string{
	"role", "registry", "http", "events", "database", "cache", "interval", "retention", "manage", "usage", "scan", "search",
	"flatpak", "log", "data_dir",
}

// optional are the keys that turn the part of a section on, besides a key enabled.
var optional = map[string]string{
	"auth": "auth.method", "front": "front.token", "internal": "internal.secret", "audit": "audit.pushes",
	"webhooks": "webhooks.key", "collect": "collect.sweep", "plans": "plans.interval", "errors": "errors.sentry_dsn",
	"components": "",                                                         // each key is a part
	"storage":    "storage.filesystem.rootdirectory", "redis": "redis.addrs", // only for registry-config
}

// Every optional part is off until a key turns it on. A new section must say which one.
func TestOptionalPartsAreOff(t *testing.T) {
	t.Parallel()
	keys := map[string]config.Key{}
	for _, k := range config.Keys() {
		keys[k.Name] = k
	}
	off := func(name string) bool {
		k, known := keys[name]
		return known && slices.Contains([]string{"", "0", "false", "none"}, k.Default)
	}
	for name, k := range keys {
		section, _, _ := strings.Cut(name, ".")
		_, hasEnabled := keys[section+".enabled"]
		on, known := optional[section]
		switch {
		case slices.Contains(always, section):
		case section == "components" && off(name), hasEnabled && off(section+".enabled"):
		case !known || !off(on):
			t.Errorf("%s (default %q): no key of the section %s turns it on, or it is on by default", name, k.Default, section)
		}
	}
}
