package operations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/schema/localpg/process"
)

// Addresses of the two servers. On Linux all of 127.0.0.0/8 is this machine, so both
// servers can have the same port, as on two machines.
const (
	primary = "127.0.0.1"
	standby = "127.0.0.2"
)

const (
	// blockTimeout limits a block. The slowest copies an empty server.
	blockTimeout = 2 * time.Minute
	// turnTimeout limits the wait for a start, for a scan of a few images, or until an
	// indexer finds a new primary.
	turnTimeout = time.Minute
)

// A site has the machines of the handbook. All of them run on this machine.
type site struct {
	t        *testing.T
	dir      string
	account  *process.Account // runs the servers and the commands
	port     int
	registry string
	bin      string // the directory of PostgreSQL's programs
	mailbox  string // the address of the indexer to which the registry sends events
}

// newSite starts an empty primary, as a package of a distribution does, and a registry
// with a few images.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, bin: programs(t)}
	var err error
	if s.account, err = process.Unprivileged(); err != nil {
		t.Fatal(err)
	}
	if s.dir, err = os.MkdirTemp("", "portbook-operations-"); err != nil { // the account may not enter t.TempDir
		t.Fatal(err)
	}
	if s.port, err = localpg.FreePort(); err != nil {
		t.Fatal(err)
	}
	s.clear()
	for _, name := range []string{"", "primary", "standby", "indexer", "secrets", "bin", "s"} {
		s.check(os.MkdirAll(filepath.Join(s.dir, name), 0o755))
	}
	s.build("registry", ".", "registry")
	s.build("indexer", "./cmd/portbook", "portbook")
	s.check(os.WriteFile(filepath.Join(s.dir, "bin", "systemctl"), []byte(systemctl), 0o755))
	s.own()
	s.mailbox = s.freeAddress()
	s.startRegistry()
	s.command("primary", "initdb -D \"$DATA\" -U postgres -A scram-sha-256 --auth-local=trust --pwfile=<(echo unused) -E UTF8 --locale=C.UTF-8 --no-sync\nsystemctl start $SERVICE")
	return s
}

// systemctl replaces the machine's systemctl. It starts and stops the machine's only
// server.
const systemctl = `#!/bin/sh
[ "$2" = "$SERVICE" ] || { echo "systemctl: no service $2" >&2; exit 1; }
exec pg_ctl "$1" -D "$DATA" -w -t 60 -m fast -l "$DATA.log" -o "-h $ADDRESS -p $PORT -k $PGHOST -c fsync=off" >/dev/null
`

// programs returns the directory of PostgreSQL's programs, including the clients,
// which some builds do not have.
func programs(t *testing.T) string {
	t.Helper()
	unavailable := func(why string) {
		t.Helper()
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	bin, err := localpg.Find()
	if err != nil {
		unavailable(err.Error())
	}
	if bin, err = complete(bin); err != nil {
		if os.Getenv(localpg.BinVariable) != "" { // set to test another version of the server only
			t.Skip(err)
		}
		unavailable(err.Error())
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		unavailable("openssl is not installed: on Debian or Ubuntu run: apt-get install openssl")
	}
	return bin
}

// complete returns bin, or the directory to which bin/initdb links. It fails if that
// lacks a program.
func complete(bin string) (string, error) {
	var missing string
	if link, err := filepath.EvalSymlinks(filepath.Join(bin, "initdb")); err == nil {
		bin = filepath.Dir(link)
	}
	for _, name := range []string{"psql", "pg_ctl", "pg_basebackup", "pg_dump", "pg_dumpall", "pg_restore"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			missing += " " + name
		}
	}
	if missing != "" {
		return "", fmt.Errorf("%s lacks%s: on Debian or Ubuntu run: apt-get install postgresql", bin, missing)
	}
	return bin, nil
}

func (s *site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// own makes the account the owner of everything in the directory.
func (s *site) own() {
	s.t.Helper()
	if s.account == nil {
		return
	}
	s.check(filepath.WalkDir(s.dir, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, int(s.account.UID), int(s.account.GID))
	}))
}

// sweep is a shell script that waits until this process ends, however it ends. Then it
// stops the servers, which are not our children because of pg_ctl, and removes the
// directory.
const sweep = `
cat >/dev/null
for file in "$1"/*/data*/postmaster.pid; do
	[ -e "$file" ] && kill -QUIT "$(head -n 1 "$file")" 2>/dev/null
done
sleep 0.5
rm -rf "$1"
`

// clear starts sweep.
func (s *site) clear() {
	s.t.Helper()
	cmd := exec.Command("/bin/sh", "-c", sweep, "sweep", s.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C at the terminal does not end it
	stdin, err := cmd.StdinPipe()
	s.check(err)
	s.check(cmd.Start())
	s.t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
}

// build builds a program of a module with the dependencies that users get.
func (s *site) build(module, pkg, name string) {
	s.t.Helper()
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(s.dir, "bin", name), pkg)
	cmd.Dir = filepath.Join("../..", module)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("go build in %s: %v: %s", cmd.Dir, err, process.LastLines(out))
	}
}

func (s *site) freeAddress() string {
	s.t.Helper()
	port, err := localpg.FreePort()
	s.check(err)
	return "127.0.0.1:" + strconv.Itoa(port)
}

const token = "a token for tests"

// startRegistry starts the registry and pushes three images.
func (s *site) startRegistry() {
	s.t.Helper()
	address := s.freeAddress()
	s.registry = "http://" + address
	config, err := filepath.Abs("../../registry/config/filesystem.yml")
	s.check(err)
	cmd := exec.Command(filepath.Join(s.dir, "bin", "registry"), "serve", config)
	cmd.Env = []string{
		"REGISTRY_HTTP_ADDR=" + address,
		"REGISTRY_STORAGE={inmemory: {}, delete: {enabled: true}, maintenance: {uploadpurging: {enabled: false}}}",
		"REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL=http://" + s.mailbox + "/events",
		`REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS={Authorization: ["Bearer ` + token + `"]}`,
	}
	p, err := process.Start(cmd, nil, nil)
	s.check(err)
	s.t.Cleanup(p.Kill)
	s.within("the registry answers", p, func() bool { return status(s.registry+"/v2/") == http.StatusOK })
	for _, name := range []string{"demo/one", "demo/two", "demo/three"} {
		s.push(name, "v1")
	}
}

func (s *site) push(repository, tag string) {
	s.t.Helper()
	spec := push.ImageSpec{Labels: map[string]string{"org.opencontainers.image.description": repository + " " + tag}}
	_, err := push.New(s.registry).Image(s.t.Context(), repository, tag, spec)
	s.check(err)
}

// names returns the variables that the handbook sets on a machine.
func (s *site) names(machine string) map[string]string {
	return map[string]string{
		"PRIMARY": primary, "STANDBY": standby, "PORT": strconv.Itoa(s.port), "KIND": "IP", "CLIENTS": "127.0.0.0/8",
		"DATA": filepath.Join(s.dir, machine, "data"), "SERVICE": "postgresql@15-main",
		"SECRETS": filepath.Join(s.dir, "secrets"), "REGISTRY": s.registry,
	}
}

// command runs commands on a machine as the account and returns their output.
func (s *site) command(machine, text string) string {
	s.t.Helper()
	out, err := s.try(machine, text)
	if err != nil {
		s.t.Fatalf("on %s: %v\n%s\n%s", machine, err, text, out)
	}
	return out
}

func (s *site) try(machine, text string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), blockTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", text)
	cmd.Dir = filepath.Join(s.dir, machine)
	cmd.SysProcAttr = s.account.Attributes()
	cmd.Env = []string{
		"PATH=" + strings.Join([]string{filepath.Join(s.dir, "bin"), s.bin, os.Getenv("PATH")}, ":"),
		"HOME=" + cmd.Dir, "LC_ALL=C.UTF-8", "TZ=UTC",
	}
	for name, value := range s.names(machine) {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if address := map[string]string{"primary": primary, "standby": standby}[machine]; address != "" {
		// A real machine has its own socket and address.
		cmd.Env = append(cmd.Env, "PGHOST="+filepath.Join(s.dir, machine), "PGPORT="+strconv.Itoa(s.port), "PGUSER=postgres", "ADDRESS="+address)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// sql returns the result of a query on a server as the superuser.
func (s *site) sql(machine, query string) string {
	s.t.Helper()
	return strings.TrimSpace(s.command(machine, "psql -XAtd portbook <<'END'\n\\set ON_ERROR_STOP 1\n"+query+";\nEND"))
}

// password returns the password that the handbook's commands created for a user.
func (s *site) password(user string) string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "primary", user+".password"))
	s.check(err)
	return strings.TrimSpace(string(b))
}

// connect connects to a server over TCP as a user of the handbook.
func (s *site) connect(host, user, sslmode string) (*pgx.Conn, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), turnTimeout)
	defer cancel()
	return pgx.Connect(ctx, fmt.Sprintf("postgres://%s:%s@%s:%d/portbook?sslmode=%s&sslrootcert=%s",
		user, s.password(user), host, s.port, sslmode, filepath.Join(s.dir, "secrets", "ca.crt")))
}

// An indexer is a running indexer.
type indexer struct {
	*process.Process
	address, operations string
}

// serve starts an indexer with a configuration file of the handbook.
func (s *site) serve(file, address string, settings ...string) *indexer {
	s.t.Helper()
	i := &indexer{address: address, operations: s.freeAddress()}
	cmd := exec.Command(filepath.Join(s.dir, "bin", "portbook"), "serve", "--config", filepath.Join(s.dir, "secrets", file))
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "PORTBOOK_EVENTS_TOKEN=" + token, "PORTBOOK_LOG_LEVEL=debug",
		"PORTBOOK_HTTP_ADDRESS=" + address, "PORTBOOK_HTTP_OPERATIONS_ADDRESS=" + i.operations}, settings...)
	var err error
	i.Process, err = process.Start(cmd, s.account, nil)
	s.check(err)
	s.t.Cleanup(i.Kill)
	s.within("the indexer is ready", i.Process, func() bool { return status("http://"+i.operations+"/readyz") == http.StatusOK })
	return i
}

func (i *indexer) stop() { i.Stop(syscall.SIGTERM, 15*time.Second) }

// finds waits until an indexer finds a repository.
func (s *site) finds(i *indexer, repository string) {
	s.t.Helper()
	s.within("search finds "+repository, i.Process, func() bool {
		_, body := get("http://" + i.address + "/v1/search?q=" + repository)
		var answer struct{ Results []struct{ Name string } } // the answer repeats the query, so its text is no proof
		return json.Unmarshal([]byte(body), &answer) == nil && len(answer.Results) > 0 && answer.Results[0].Name == repository
	})
}

// within waits until ask returns true. It fails after turnTimeout, or if p ends.
func (s *site) within(what string, p *process.Process, ask func() bool) {
	s.t.Helper()
	deadline := time.After(turnTimeout)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ask() {
		select {
		case <-p.Done():
			s.t.Fatalf("waiting until %s: the process ended (%s): %s", what, p.Outcome(), p.Tail())
		case <-deadline:
			s.t.Fatalf("timeout after %v: %s; log: %s", turnTimeout, what, p.Tail())
		case <-tick.C:
		}
	}
}

var client = &http.Client{Timeout: 10 * time.Second}

func status(address string) int {
	code, _ := get(address)
	return code
}

// get returns the status and the body of an answer. The status is 0 if there is none.
func get(address string) (int, string) {
	resp, err := client.Get(address)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, ""
	}
	return resp.StatusCode, string(body)
}
