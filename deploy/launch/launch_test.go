package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/portbook/portbook/schema/localpg/process"
)

// Lines of several programs must be printed whole, after their names, and without
// secrets, even if a program writes a line in pieces.
func TestOutput(t *testing.T) {
	var b strings.Builder
	o := newOutput(&b)
	o.hide("s3cret")
	o.hide("") // must not replace every empty string
	one, two := o.log("one"), o.log("two")

	fmt.Fprintln(one, "before the logs are shown")
	o.showLogs()
	fmt.Fprint(one, "the token is s3c")
	fmt.Fprint(two, "first\nsecond\nthi")
	fmt.Fprint(one, "ret\n")
	fmt.Fprintln(two, "rd")
	o.print("password %s", "s3cret")

	const want = `two      | first
two      | second
one      | the token is [secret]
two      | third
password [secret]
`
	if got := b.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// The memory must be limited even if a program never ends its line.
func TestOutputLongLine(t *testing.T) {
	var b strings.Builder
	o := newOutput(&b)
	o.showLogs()
	w := o.log("wild").(*lineWriter)
	for range 10 {
		w.Write(make([]byte, longestLine/2))
	}
	if len(w.rest) > longestLine {
		t.Errorf("got %d bytes kept, want at most %d", len(w.rest), longestLine)
	}
	if b.Len() == 0 {
		t.Error("got no output")
	}
}

// planned must read the output of a simulated installation: Debian 12, apt 2.6.
func TestPlanned(t *testing.T) {
	const plan = `Reading package lists...
The following NEW packages will be installed:
  libpq5 postgresql-15
Inst libpq5 (15.14-0+deb12u1 Debian:12.12/oldstable [amd64])
Inst perl-base [5.36.0-7] (5.36.0-7+deb12u3 Debian:12.12/oldstable [amd64])
Inst postgresql-15 (15.14-0+deb12u1 Debian:12.12/oldstable [amd64])
Conf libpq5 (15.14-0+deb12u1 Debian:12.12/oldstable [amd64])
`
	want := []string{"libpq5", "perl-base", "postgresql-15"}
	if got := planned([]byte(plan)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDefaultData(t *testing.T) {
	if os.Geteuid() == 0 {
		if got, err := DefaultData(os.Getenv); got != "/var/lib/portbook" || err != nil {
			t.Errorf("root: got %q, %v, want /var/lib/portbook", got, err)
		}
		t.Skip("the other cases need a user other than root")
	}
	for _, test := range []struct{ state, home, want string }{
		{"/state", "/home/me", "/state/portbook"},
		{"", "/home/me", "/home/me/.local/state/portbook"},
		{"relative", "/home/me", "/home/me/.local/state/portbook"},
		{"", "", ""},
	} {
		env := map[string]string{"XDG_STATE_HOME": test.state, "HOME": test.home}
		got, err := DefaultData(func(name string) string { return env[name] })
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%v: got %q, %v, want %q", env, got, err, test.want)
		}
	}
}

// A second launcher must not use the folder of a running one: it would start a second
// server on its database.
func TestLock(t *testing.T) {
	dir := dataDir(t)
	first, second := data{dir: dir}, data{dir: dir}
	if err := first.lockDir(); err != nil {
		t.Fatal(err)
	}
	if err := second.lockDir(); err == nil || !strings.Contains(err.Error(), "another `make up`") {
		t.Errorf("second lock: got %v, want an error", err)
	}
	first.unlock()
	if err := second.lockDir(); err != nil {
		t.Errorf("lock after the first one ended: %v", err)
	}
	second.unlock()
}

// dataDir returns a new folder that the servers' account can enter.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "portbook-launch-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// The folder must keep its token, and other users must not be able to read its secrets.
func TestDataFolder(t *testing.T) {
	account, err := process.Unprivileged()
	if err != nil {
		t.Fatal(err)
	}
	d := data{dir: dataDir(t)} // mode 0700, as mktemp -d makes it
	if err := d.open(account); err != nil {
		t.Fatal(err)
	}
	defer d.unlock()
	first, err := d.token()
	if err != nil || len(first) < 20 {
		t.Fatalf("token: got %q, %v", first, err)
	}
	if again, err := d.token(); again != first || err != nil {
		t.Errorf("second token: got %q, %v, want %q", again, err, first)
	}
	// A file that everybody could read must become private.
	if err := os.WriteFile(d.path("conf"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.writeFile(account, "conf", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"conf", tokenName} {
		fi, err := os.Stat(d.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Mode().Perm(); got != 0o600 {
			t.Errorf("%s: got mode %v, want 0600", name, got)
		}
	}
}

// The mode of a folder that is not empty must not change.
func TestForeignFolder(t *testing.T) {
	dir := dataDir(t)
	if err := os.WriteFile(filepath.Join(dir, "theirs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := openEmpty(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := fi.Mode().Perm(); got != 0o700 {
		t.Errorf("got mode %v, want 0700", got)
	}
}

// A database of the caller must be used under any of its usual names, and be printed
// without its password. The indexer must not get it a second time.
func TestUseDatabase(t *testing.T) {
	for _, name := range databaseVariables {
		var b strings.Builder
		s := &system{out: newOutput(&b)}
		s.cfg.Environ = []string{name + "=postgres://me:pass%2Fword@db.example:5433/book", "PORTBOOK_LOG_LEVEL=debug", "PGHOST=elsewhere"}
		if err := s.startDatabase(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		const want = ": book on db.example, port 5433, as me\n"
		if got := b.String(); !strings.HasSuffix(got, name+want) {
			t.Errorf("%s: got output %q, want it to end with %q", name, got, want)
		}
		b.Reset()
		s.out.print("%s %s", "pass%2Fword", "pass/word")
		if got := b.String(); got != "[secret] [secret]\n" {
			t.Errorf("%s: the output contains the password: %q", name, got)
		}
		if got := s.passedOn(); !slices.Equal(got, []string{"PORTBOOK_LOG_LEVEL=debug"}) {
			t.Errorf("%s: got environment of the indexer %q", name, got)
		}
	}
}

func TestUseDatabaseMalformed(t *testing.T) {
	s := &system{out: newOutput(&strings.Builder{})}
	s.cfg.Environ = []string{"DATABASE_URL=postgres://me:hidden@db:port/book"}
	err := s.startDatabase(t.Context())
	if err == nil || !strings.Contains(err.Error(), "DATABASE_URL") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("got %v, want an error that names the variable and no password", err)
	}
}

// An address to listen on is not always an address for clients.
func TestLocal(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:7080": "127.0.0.1:7080",
		"0.0.0.0:7080":   "127.0.0.1:7080",
		":7080":          "127.0.0.1:7080",
		"[::]:7080":      "127.0.0.1:7080",
		"localhost:7080": "localhost:7080",
		"192.0.2.7:7080": "192.0.2.7:7080",
	} {
		s := &system{cfg: Config{Addr: addr}}
		if got := s.local(); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
}

// If a program ends unexpectedly, the error must have its name and its last lines.
func TestChildEnds(t *testing.T) {
	s := &system{out: newOutput(&strings.Builder{}), ended: make(chan *child, 2)}
	s.data.dir = dataDir(t)
	if err := s.data.open(nil); err != nil {
		t.Fatal(err)
	}
	defer s.data.unlock()
	script := "#!/bin/sh\necho the token is s3cret\nexit 7\n"
	if err := os.WriteFile(filepath.Join(s.data.path(binName), "registry"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	s.out.hide("s3cret")
	c, err := s.startChild("registry", "registry", nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = "the registry ended unexpectedly (exit status 7); its last lines: the token is [secret]"
	if err := c.waitReady(t.Context(), "http://127.0.0.1:1/"); err == nil || err.Error() != want {
		t.Errorf("waiting: got %v, want %q", err, want)
	}
	if err := s.follow(t.Context()); err == nil || err.Error() != want {
		t.Errorf("following: got %v, want %q", err, want)
	}
}
