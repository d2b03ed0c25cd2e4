package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// loginSystem starts `make up AUTH=yes` for a test. It returns it with the administrator's
// password and the lines to try, as it prints them.
func loginSystem(t *testing.T, data string) (s *system, password string, lines []string) {
	t.Helper()
	s, err := start(freeAddress(t), data, "-auth", "yes")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	eventually(t, func() error {
		if !strings.Contains(s.output.String(), "Metrics: ") {
			return fmt.Errorf("not all is printed:\n%s", s.output)
		}
		return nil
	})
	text := s.output.String()
	if m := regexp.MustCompile(`with the password (\S+),`).FindStringSubmatch(text); m != nil {
		password = m[1]
	}
	_, text, _ = strings.Cut(text, "find it:\n")
	text, _, _ = strings.Cut(text, "\n\n")
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return s, password, lines
}

// With AUTH=yes, the printed lines work when they are pasted, and the real clients log in,
// pull, push, search and are refused as the grants say.
func TestLogins(t *testing.T) {
	need(t, "podman", "skopeo")
	data := t.TempDir()
	if err := os.Chmod(filepath.Dir(data), 0o755); err != nil { // the servers' account must enter
		t.Fatal(err)
	}
	s, password, lines := loginSystem(t, filepath.Join(data, "portbook"))
	if password == "" || len(lines) < 2 {
		t.Fatalf("no password or no lines to try:\n%s", s.output)
	}
	environ := clientEnviron(t)
	shell := func(line string) (string, error) {
		t.Helper()
		return try(t, "env", append(slices.Clone(environ), "sh", "-c", line)...)
	}
	for _, line := range lines {
		line = strings.ReplaceAll(line, ".run/up", mustLauncher(t))
		out, err := shell(line)
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(line, "search") && !strings.Contains(out, "me/first") {
			t.Errorf("%s finds\n%s", line, out)
		}
	}

	portbook := func(input string, args ...string) string {
		t.Helper()
		line := "printf %s\\\\n '" + input + "' | '" + s.data + "/bin/portbook' " + strings.Join(args, " ") +
			" --config '" + s.data + "/indexer.yaml'"
		out, err := shell(line)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	const secret = "the password of alice"
	portbook(secret, "user", "add", "--group", "dev", "alice")
	portbook("", "user", "add", "--robot", "ci")
	portbook("", "grant", "add", "group:dev", "'team/*:push,delete'")
	portbook("", "grant", "add", "ci", "'team/*:push'")
	words := strings.Fields(portbook("", "token", "create", "--expires", "1h", "ci"))
	token := words[len(words)-1]

	const insecure = "--tls-verify=false"
	addr := s.addr
	for _, c := range []struct {
		line  string
		works bool
		shows string
	}{
		{"skopeo logout " + addr, true, ""},
		{"podman search " + insecure + " " + addr + "/lighthouse", true, "samples/lighthouse"},
		{"podman pull " + insecure + " " + addr + "/samples/lighthouse:0.3.0", true, ""},
		{"skopeo copy --dest-tls-verify=false containers-storage:" + addr + "/samples/lighthouse:0.3.0 docker://" + addr + "/team/x:1", false, ""},
		{"podman login " + insecure + " -u alice -p wrong " + addr, false, ""},
		{"podman login " + insecure + " -u alice -p '" + secret + "' " + addr, true, "Login Succeeded"},
		{"podman tag " + addr + "/samples/lighthouse:0.3.0 " + addr + "/team/app:1", true, ""},
		{"podman push " + insecure + " " + addr + "/team/app:1", true, ""},
		{"podman push " + insecure + " " + addr + "/team/app:1 " + addr + "/other/app:1", false, ""},
		{"sleep 1; podman search " + insecure + " " + addr + "/app", true, "team/app"},
		{"podman logout " + addr, true, ""},
		{"test -z \"$(podman search " + insecure + " " + addr + "/app)\"", true, ""},
		{"podman pull " + insecure + " " + addr + "/team/app:1", false, ""},
		{"skopeo inspect " + insecure + " --creds ci:" + token + " docker://" + addr + "/team/app:1", true, "arm64"},
		{"skopeo copy --src-tls-verify=false --dest-tls-verify=false --src-creds ci:" + token + " --dest-creds ci:" + token +
			" docker://" + addr + "/team/app:1 docker://" + addr + "/team/mounted:1", true, ""},
		{"skopeo delete " + insecure + " --creds ci:" + token + " docker://" + addr + "/team/app:1", false, ""},
		{"skopeo delete " + insecure + " --creds 'alice:" + secret + "' docker://" + addr + "/team/app:1", true, ""},
		{"skopeo inspect " + insecure + " --creds ci:" + token + " docker://" + addr + "/team/app:1", false, ""},
	} {
		out, err := shell(c.line)
		if (err == nil) != c.works || !strings.Contains(out, c.shows) {
			t.Errorf("%s: got %v, want it to work: %v, and to show %q in\n%s", c.line, err, c.works, c.shows, out)
		}
	}
	craneLogsIn(t, addr, account{"alice", secret})
	containerdLogsIn(t, addr, account{"alice", secret})
	buildkitLogsIn(t, addr, account{"alice", secret})
	helmLogsIn(t, addr, account{"alice", secret})
	skopeoIsTold(t, s, account{"alice", secret}, func(args ...string) { t.Helper(); portbook("", args...) }, shell)
	if os.Geteuid() != 0 {
		t.Log("docker skipped: only root can start a docker daemon")
		return
	}
	err := accept(t, "docker_run.sh", nil, append([]string{addr,
		"docker login -u alice -p '" + secret + "' " + addr,
		"docker pull --platform linux/amd64 " + addr + "/samples/harbour:1.1",
		"docker tag " + addr + "/samples/harbour:1.1 " + addr + "/team/docker:1",
		"docker push " + addr + "/team/docker:1",
		"! docker push " + addr + "/other/docker:1",
		"docker tag " + addr + "/samples/harbour:1.1 " + addr + "/other/docker:1 && ! docker push " + addr + "/other/docker:1",
		"sleep 1; docker search " + addr + "/docker | grep team/docker",
		"docker logout " + addr,
		"! docker search " + addr + "/docker | grep team/docker",
		"! docker pull " + addr + "/team/docker:1",
		"! docker login -u alice -p wrong " + addr,
		"printf %s " + token + " | docker login -u ci --password-stdin " + addr,
		"docker push " + addr + "/team/docker:1",
	}, dockerIsTold(t, s, token)...)...)
	if err != nil {
		t.Error(err)
	}
}

// mustLauncher returns the program behind `make up`.
func mustLauncher(t *testing.T) string {
	t.Helper()
	name, err := launcher()
	if err != nil {
		t.Fatal(err)
	}
	return name
}
