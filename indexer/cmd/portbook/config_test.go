package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// secret is a password that no output may show.
const secret = "hunter2"

// file writes a file that only its owner may read, and returns its path.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// settings returns the settings that `config check` prints: value and origin by name.
func settings(t *testing.T, environ []string, args ...string) map[string][2]string {
	t.Helper()
	out, code := indexerCommand(t, environ, append([]string{"config", "check"}, args...)...)
	if code != 0 {
		t.Fatalf("exit status %d:\n%s", code, out)
	}
	if strings.Contains(out, secret) {
		t.Errorf("the output contains a secret:\n%s", out)
	}
	found := map[string][2]string{}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			t.Fatalf("no name, value and origin in %q", line)
		}
		found[fields[0]] = [2]string{fields[1], strings.Join(fields[2:], " ")}
	}
	return found
}

// `config check` must print the effective values and their sources, without secrets,
// for every way to name the database.
func TestConfigCheck(t *testing.T) {
	t.Parallel()
	pgpass := file(t, "pgpass", "db1:*:*:m:"+secret+"\n*:*:*:db_app:"+secret+"\n")
	parts := file(t, "portbook.yaml", `
database:
  host: db1,db2
  port: 5433
  user: db_app
  database: registry
  sslMode: verify-full
events: {token: `+secret+`}
`)
	url := "postgres://u:" + secret + "@db1:1,db2:2/d?target_session_attrs=primary"
	for _, test := range []struct {
		name    string
		environ []string
		args    []string
		want    map[string]string // "value origin"
	}{
		{"parts", []string{"PGPASSFILE=" + pgpass, "PGSSLMODE=disable", "PORTBOOK_LOG_LEVEL=warn", "THV_REGISTRY_DATABASE_MIGRATIONUSER=m"}, []string{"--config", parts, "--role", "reader"}, map[string]string{
			"role":                        "reader flag --role",
			"log.level":                   "warn environment PORTBOOK_LOG_LEVEL",
			"events.token":                "REDACTED file " + parts + ":8",
			"database.host":               "db1,db2 file " + parts + ":3",
			"database.port":               "5433 file " + parts + ":4",
			"database.user":               "db_app file " + parts + ":5",
			"database.migrationUser":      "m environment THV_REGISTRY_DATABASE_MIGRATIONUSER",
			"database.password":           "- pgpass file " + pgpass + ":2",
			"database.migrationPassword":  "- pgpass file " + pgpass + ":1",
			"database.sslMode":            "verify-full file " + parts + ":7",
			"database.targetSessionAttrs": "prefer-standby default of a reader with several hosts",
			"database.maxOpenConns":       "25 default",
			"retention.events":            "90d default",
			"PGPASSFILE":                  pgpass + " environment",
			"PGSSLMODE":                   "disable environment, not used: file " + parts + ":7",
		}},
		{"URL", []string{"DB_URL=" + url, "PGUSER=x", "PGDATABASE=x"}, nil, map[string]string{
			"database.postgres.url":       "postgres://u:REDACTED@db1:1,db2:2/d?target_session_attrs=primary environment DB_URL",
			"database.host":               "db1,db2 database.postgres.url, environment DB_URL",
			"database.port":               "1,2 database.postgres.url, environment DB_URL",
			"database.user":               "u database.postgres.url, environment DB_URL",
			"database.database":           "d database.postgres.url, environment DB_URL",
			"database.password":           "REDACTED database.postgres.url, environment DB_URL",
			"database.migrationUser":      "u default: database.user",
			"database.migrationPassword":  "REDACTED default: database.password (database.postgres.url, environment DB_URL)",
			"database.sslMode":            "require default",
			"database.targetSessionAttrs": "primary database.postgres.url, environment DB_URL",
			"PGUSER":                      "x environment, not used: database.postgres.url, environment DB_URL",
		}},
		{"libpq", []string{"PGHOST=db3", "PGPORT=5434", "PGUSER=v", "PGPASSWORD=" + secret, "PGSSLMODE=verify-full"}, nil, map[string]string{
			"database.host":               "db3 environment PGHOST",
			"database.port":               "5434 environment PGPORT",
			"database.user":               "v environment PGUSER",
			"database.database":           "v default of libpq",
			"database.password":           "REDACTED environment PGPASSWORD",
			"database.sslMode":            "verify-full environment PGSSLMODE",
			"database.targetSessionAttrs": "read-write default of a writer",
			"PGPASSWORD":                  "REDACTED environment",
		}},
		{"a password of another user", []string{"DB_URL=postgres://u@h/d", "PGPASSWORD=" + secret, "PORTBOOK_DATABASE_MIGRATIONUSER=m"}, nil, map[string]string{
			"database.password":          "REDACTED environment PGPASSWORD",
			"database.migrationPassword": "- none: pgpass file /nonexistent/.pgpass does not exist or is not used",
		}},
		{"service", []string{"PGSERVICE=s", "PGSERVICEFILE=" + file(t, "services", "[s]\nhost=db4\nuser=w\ndbname=d\npassword="+secret+"\nsslmode=verify-full\n")}, nil, map[string]string{
			"database.host":    "db4 service s of ",
			"database.sslMode": "verify-full service s of ",
		}},
		{"no password", []string{"DB_URL=postgres://u@h/d", "PGPASSFILE=" + pgpass}, nil, map[string]string{
			"database.password": "- none: no matching line in pgpass file " + pgpass,
		}},
		// It does not connect: neither to a host that does not exist nor to AWS.
		{"dynamicAuth", []string{"DB_URL=postgres://u@nowhere.invalid/d", "THV_REGISTRY_DATABASE_DYNAMICAUTH_AWSRDSIAM_REGION=detect", "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1"}, nil, map[string]string{
			"database.password":                     "- database.dynamicAuth",
			"database.dynamicAuth.awsRdsIam.region": "detect environment THV_REGISTRY_DATABASE_DYNAMICAUTH_AWSRDSIAM_REGION",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := settings(t, test.environ, test.args...)
			for name, want := range test.want {
				if line := got[name][0] + " " + got[name][1]; !strings.HasPrefix(line, want) {
					t.Errorf("%s: got %s, want %s", name, line, want)
				}
			}
		})
	}
}

// All mistakes must be reported together, each with its key and source, and nothing may
// be started.
func TestConfigMistakes(t *testing.T) {
	t.Parallel()
	bad := file(t, "bad.yaml", `
database:
  port: 99999
  user: u
  password: `+secret+`
  sslMode: prefer
  connMaxLifetime: 5x
  maxOpenConns: 1
  maxIdleConns: 30
  maxMetaSize: 0
  dynamicAuth: {}
`)
	for _, command := range [][]string{{"config", "check"}, {"serve"}, {"migrate", "status"}} {
		out, code := indexerCommand(t, nil, append(command, "--config", bad)...)
		for _, want := range []string{
			`database.host is required`, `database.database is required`, `database.port: "99999" is out of range`, `database.sslMode: "prefer" is not valid`,
			`database.connMaxLifetime: "5x" is not a duration`, `database.maxOpenConns: "1" is too few`, `database.maxIdleConns: "30" is more`,
			`database.maxMetaSize must be greater than zero`, `database.dynamicAuth.awsRdsIam.region is required`,
			`database.password and database.dynamicAuth are mutually exclusive; use one authentication method`,
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%v: output lacks %q:\n%s", command, want, out)
			}
		}
		if code != 1 || strings.Contains(out, secret) {
			t.Errorf("%v: got exit status %d, want 1 and no secret:\n%s", command, code, out)
		}
	}
}

// If a required key is missing, the error must name it.
func TestRequiredKeys(t *testing.T) {
	t.Parallel()
	keys := map[string]string{"host": "h", "port": "1", "user": "u", "database": "d"}
	for missing := range keys {
		text := "database:\n"
		for key, value := range keys {
			if key != missing {
				text += "  " + key + ": " + value + "\n"
			}
		}
		out, code := indexerCommand(t, nil, "serve", "--config", file(t, "bad.yaml", text))
		if want := "database." + missing + " is required"; code != 1 || !strings.Contains(out, want) {
			t.Errorf("exit status %d, want 1 and %q in:\n%s", code, want, out)
		}
	}
}
