package launch

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/portbook/portbook/registry/push"
)

// administrator is the name of the first account.
const administrator = "admin"

// portbook runs a command of the indexer's program, and returns its output. input is its
// standard input.
func (s *system) portbook(ctx context.Context, input string, args ...string) ([]byte, error) {
	return s.portbookWith(ctx, s.passedOn(), input, args...)
}

// portbookWith does the same with another environment.
func (s *system) portbookWith(ctx context.Context, env []string, input string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.data.path(binName), "portbook"), args...)
	cmd.Env, cmd.Dir = env, s.data.dir
	cmd.Stdin = strings.NewReader(input)
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("portbook %s: %w: %s", args[0], err, s.out.clean(strings.TrimSpace(errors.String())))
	}
	return out.Bytes(), nil
}

// makeKeys makes the keys that sign tokens for the registry, if there are none, and writes
// the public keys for it.
func (s *system) makeKeys(ctx context.Context) error {
	keys := s.data.path(keysName)
	if _, err := os.Stat(keys); errors.Is(err, os.ErrNotExist) {
		if _, err := s.portbook(ctx, "", "keys", "rotate", keys); err != nil {
			return err
		}
	}
	if err := s.account.Own(keys); err != nil {
		return err
	}
	public, err := s.portbook(ctx, "", "keys", "public", keys)
	if err != nil {
		return err
	}
	return s.data.writeFile(s.account, jwksName, public)
}

// registryAuth returns the settings by which the registry asks for tokens.
func (s *system) registryAuth() []string {
	return []string{
		"REGISTRY_AUTH_TOKEN_REALM=http://" + s.local() + "/auth/token",
		"REGISTRY_AUTH_TOKEN_JWKS=" + s.data.path(jwksName),
	}
}

// addAdministrator adds the first account, if there is none that administers. It lets
// everybody see the samples.
func (s *system) addAdministrator(ctx context.Context) error {
	if !s.cfg.Auth {
		return nil
	}
	config := []string{"--config", s.data.path(indexerConfigName)}
	list, err := s.portbook(ctx, "", append([]string{"user", "list"}, config...)...)
	if err != nil || strings.Contains(string(list), "administrator") {
		return err
	}
	s.password = strings.ToLower(rand.Text())
	for _, args := range [][]string{
		{"user", "add", "--admin", administrator}, {"grant", "add", "everybody", "samples/*:pull"},
	} {
		if _, err := s.portbook(ctx, s.password+"\n", append(args, config...)...); err != nil {
			return err
		}
	}
	return nil
}

// sayAccounts prints how to log in.
func (s *system) sayAccounts() {
	if s.password != "" {
		s.out.print("The administrator is %s, with the password %s, which is shown only now.", administrator, s.password)
	}
	program := filepath.Join(s.data.path(binName), "portbook")
	s.out.print("Accounts: %s user list --config %s", program, s.data.path(indexerConfigName))
	s.out.print("")
}

// loginLines are tryLines for those who log in. Later starts do not know the password: the
// programs ask for it.
func (s *system) loginLines(base string, has func(string) bool) (lines []string) {
	secret := ""
	if s.password != "" {
		secret = "PASSWORD=" + s.password + " "
	}
	switch {
	case has("skopeo"):
		password := ""
		if s.password != "" {
			password = " -p " + s.password
		}
		lines = append(lines,
			fmt.Sprintf("skopeo login --tls-verify=false -u %s%s %s", administrator, password, base),
			fmt.Sprintf("skopeo copy --src-tls-verify=false --dest-tls-verify=false"+
				" docker://%[1]s/samples/lighthouse:0.3.0 docker://%[1]s/me/first:1.0", base))
	case s.password != "":
		lines = append(lines, fmt.Sprintf("%s.run/up -addr %s -user %s push me/first:1.0", secret, base, administrator))
	}
	switch {
	case s.password != "":
		lines = append(lines, fmt.Sprintf("%s.run/up -addr %s -user %s search first", secret, base, administrator))
	case has("curl"):
		lines = append(lines, fmt.Sprintf("sleep 0.2; curl -s -u %s 'http://%s/v1/search?q=first'", administrator, base))
	default:
		lines = append(lines, fmt.Sprintf(".run/up -addr %s search lighthouse", base))
	}
	return lines
}

// A Login is how a client says who it is; the zero Login does not.
type Login struct{ User, Password string }

// pusher returns a client that pushes to the Portbook at an address.
func (l Login) pusher(addr string) *push.Client {
	c := push.New("http://" + addr)
	if l.User != "" {
		c.HTTP.Transport = &withTokens{
			base: "http://" + addr, login: l, next: c.HTTP.Transport, tokens: map[string]string{},
		}
	}
	return c
}

// withTokens sends requests to the registry with tokens to pull from and push to their
// repositories.
type withTokens struct {
	base  string
	login Login
	next  http.RoundTripper

	mu     sync.Mutex
	tokens map[string]string // by repository; the program ends before they expire
}

var repositoryPath = regexp.MustCompile(`^/v2/(.+)/(blobs|manifests)/`)

// RoundTrip implements http.RoundTripper.
func (w *withTokens) RoundTrip(r *http.Request) (*http.Response, error) {
	if part := repositoryPath.FindStringSubmatch(r.URL.Path); part != nil {
		token, err := w.token(r.Context(), part[1])
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return w.next.RoundTrip(r)
}

func (w *withTokens) token(ctx context.Context, repository string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if token, known := w.tokens[repository]; known {
		return token, nil
	}
	scope := url.Values{"scope": {"repository:" + repository + ":pull,push"}}
	body, err := w.login.fetch(ctx, w.base+"/auth/token?"+scope.Encode())
	if err != nil {
		return "", err
	}
	var answer struct{ Token string }
	err = json.Unmarshal(body, &answer)
	w.tokens[repository] = answer.Token
	return answer.Token, err
}
