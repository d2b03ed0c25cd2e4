package main_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// The settings of the registry that do not depend on ours are those of its sample configuration.
// test/storage starts it with the rest.
func TestRegistryConfig(t *testing.T) {
	t.Parallel()
	text, code := indexerCommand(t, []string{"FS_STORAGE_ROOT=/var/lib/registry"}, "registry-config", "--listen", ":5000")
	if code != 0 {
		t.Fatalf("exit status %d:\n%s", code, text)
	}
	sample, err := os.ReadFile("../../../registry/config/filesystem.yml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(mapping(t, string(sample)), mapping(t, text)); diff != "" {
		t.Errorf("differs from filesystem.yml (-want +got):\n%s", diff)
	}
}

// mapping returns the content of a YAML file.
func mapping(t *testing.T, text string) (content map[string]any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), &content); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return content
}

// Logins, addresses and events follow our settings.
func TestRegistryConfigOfOurs(t *testing.T) {
	t.Parallel()
	ours := file(t, "portbook.yaml", `
registry: {url: 'http://registry:5001', public_url: 'https://registry.example.org'}
http: {address: ':8080'}
auth: {method: accounts, keys: keys.json, service: shop}
events: {token: `+secret+`}
storage: {filesystem: {rootdirectory: data}, cache: {blobdescriptor: none}}
`)
	out := filepath.Join(t.TempDir(), "registry.yml")
	printed, code := indexerCommand(t, []string{"PORTBOOK_REGISTRY_URL="}, "registry-config", "--config", ours, "--pulls", "--out", out)
	if code != 0 || printed != "" {
		t.Fatalf("exit status %d:\n%s", code, printed)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got := mapping(t, string(text))
	at := func(path string) any {
		var value any = got
		for name := range strings.SplitSeq(path, ".") {
			switch v := value.(type) {
			case []any:
				value = v[int(name[0]-'0')]
			case map[string]any:
				value = v[name]
			default:
				t.Fatalf("no %s in\n%s", path, text)
			}
		}
		return value
	}
	for path, want := range map[string]any{
		"http.addr": ":5001", "auth.token.realm": "https://registry.example.org/auth/token", "auth.token.service": "shop",
		"notifications.endpoints.0.url": "http://127.0.0.1:8080/events", "notifications.endpoints.1.disabled": false,
		"notifications.endpoints.0.headers": map[string]any{"Authorization": []any{"Bearer " + secret}},
		"storage.cache":                     nil,
	} {
		if diff := cmp.Diff(want, at(path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	if root, _ := at("storage.filesystem.rootdirectory").(string); !filepath.IsAbs(root) {
		t.Errorf("the directory is %q, want an absolute path: the registry may start elsewhere", root)
	}
	only, _ := indexerCommand(t, []string{"PORTBOOK_DATABASE_POSTGRES_URL=postgres://h/d"}, "registry-config", "--only-auth", "--config", ours)
	if diff := cmp.Diff([]any{"auth"}, anyKeys(mapping(t, only))); diff != "" {
		t.Errorf("--only-auth (-want +got):\n%s\n%s", diff, only)
	}
}

func anyKeys(m map[string]any) (keys []any) {
	for k := range maps.Keys(m) {
		keys = append(keys, k)
	}
	return keys
}

// What would not start, or would let everybody in against our settings, is refused.
func TestRegistryConfigRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		environ, args []string
		want          string
	}{
		{nil, nil, "no storage backend configured: set storage.filesystem.rootdirectory (FS_STORAGE_ROOT)"},
		{[]string{"ACCESS_TOKEN=" + secret}, nil, "auth.method is token, but without auth.keys the registry would let everybody in"},
		{[]string{"PORTBOOK_REGISTRY_URL=", "PORTBOOK_AUTH_KEYS=k", "ACCESS_TOKEN=" + secret}, nil, `registry.public_url is "": set it to the address`},
		{[]string{"PORTBOOK_AUTH_KEYS=k", "ACCESS_TOKEN=x"}, []string{"--htpasswd", "f"}, "--htpasswd and auth.keys are two kinds"},
		{[]string{"PORT=0"}, nil, `http.address "127.0.0.1:0" does not say where the registry reaches us: set --events-url`},
		{nil, []string{"--events-url", "u:" + secret + "@h"}, "--events-url is not a URL"},
	} {
		environ := test.environ
		if len(test.environ)+len(test.args) > 0 {
			environ = append(environ, "FS_STORAGE_ROOT=/srv")
		}
		out, code := indexerCommand(t, environ, append([]string{"registry-config"}, test.args...)...)
		if code != 1 || !strings.Contains(out, test.want) || strings.Contains(out, secret) {
			t.Errorf("%q %q: exit status %d, got\n%s, want %s", environ, test.args, code, out, test.want)
		}
	}
}
