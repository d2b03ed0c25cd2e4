package main_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portbook/portbook/schema/localpg"
)

// Commands that do not use the registry must work with a file that has only the section
// database. The others must report what is missing.
func TestDatabaseAlone(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localpg.Config{})
	path := file(t, "portbook.yaml", "database:\n  postgres:\n    url: "+server.URL("postgres")+"\n")
	for _, test := range []struct {
		input, args string
		code        int
		says        string
	}{
		{"", "migrate up --yes", 0, "applied"},
		{"", "migrate status", 0, "applied      00001_catalogue.sql"},
		{"hunter22", "prime-db --reader portbook_report", 0, "is ready"},
		{"", "serve", 1, "registry.url is required for a writer: set it or PORTBOOK_REGISTRY_URL, or set role to reader"},
		{"", "verify", 1, "registry.url is required"},
	} {
		out, code := answered(t, []string{"PORTBOOK_REGISTRY_URL="}, test.input, append(strings.Fields(test.args), "--config", path)...)
		if code != test.code || !strings.Contains(out, test.says) {
			t.Errorf("portbook %s: got exit status %d, want %d and %q in:\n%s", test.args, code, test.code, test.says, out)
		}
	}
}

// A missing pgpass file must be logged if it was configured, but not if it is the
// default one in the home directory.
func TestMissingPgpass(t *testing.T) {
	t.Parallel()
	absent := filepath.Join(t.TempDir(), "pgpass")
	const url = "DB_URL=postgres://u@h/d"
	for _, test := range []struct {
		environ []string
		says    string
	}{
		{[]string{url, "PGPASSFILE=" + absent}, `named_by="environment PGPASSFILE"`},
		{[]string{url + "?passfile=" + absent}, `named_by="database.postgres.url, environment DB_URL"`},
		{[]string{url, "HOME=" + filepath.Dir(absent)}, ""},
		{[]string{"DB_URL=postgres://u:p@h/d", "PGPASSFILE=" + absent}, ""}, // not used
	} {
		out, code := indexerCommand(t, test.environ, "config", "check")
		warned := strings.Contains(out, "level=WARN")
		if code != 0 || warned != (test.says != "") || warned && (!strings.Contains(out, test.says) || !strings.Contains(out, "file="+absent)) {
			t.Errorf("%v: got exit status %d, want 0 and %q for %s in:\n%s", test.environ, code, test.says, absent, out)
		}
	}
}

// If scans are turned off, the start must log a warning. This start ends at once, since
// another program uses its address.
func TestNoScansAreWarnedOf(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	start := []string{"DB_URL=postgres://u@127.0.0.1:1/d", "PORTBOOK_HTTP_OPERATIONS_ADDRESS=127.0.0.1:0", "PORTBOOK_HTTP_ADDRESS=" + taken.Addr().String()}
	for _, test := range []struct {
		environ []string
		warned  bool
	}{
		{[]string{"PORTBOOK_INTERVAL_FETCH_ALL=0"}, true},
		{nil, false},
		{[]string{"PORTBOOK_INTERVAL_FETCH_ALL=0", "PORTBOOK_ROLE=reader"}, false},
	} {
		out, code := indexerCommand(t, append(test.environ, start...), "serve")
		if warned := strings.Contains(out, "interval.fetch_all is 0"); code != 1 || warned != test.warned {
			t.Errorf("%v: got exit status %d, warned %v, want 1, %v:\n%s", test.environ, code, warned, test.warned, out)
		}
	}
}

// Variables of libpq in a file .env reach the connection, and variables that are set count more.
func TestDotEnvOfLibpq(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localpg.Config{})
	u, err := url.Parse(server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := fmt.Sprintf("PGHOST=%s\nPGPORT='%s'\nPGUSER=%s\nexport PGPASSWORD=%q\nPGDATABASE=none\nPGSSLMODE=disable\n",
		u.Hostname(), u.Port(), u.User.Username(), secret)
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), build(t), args...)
		cmd.Dir, cmd.Env = dir, []string{"PGDATABASE=postgres", "PORTBOOK_REGISTRY_URL=" + nowhere}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("portbook %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if out := run("migrate", "up", "--yes"); !strings.Contains(out, "applied") {
		t.Errorf("migrate up says\n%s", out)
	}
	out := run("config", "check")
	if want := "file " + dir + "/.env:1"; !strings.Contains(out, want) || strings.Contains(out, secret) {
		t.Errorf("config check says\n%s, want %s and no password", out, want)
	}
}
