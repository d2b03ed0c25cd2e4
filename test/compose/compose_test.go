// Package compose checks docker-compose.yml and the files that it names without a
// container engine: it loads them with the library of docker compose, and runs nginx
// with its configuration.
package compose

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/portbook/portbook/indexer/config"
)

// root is the root of the repository.
const root = "../.."

// secrets are the variables that .env must set.
var secrets = []string{
	"POSTGRES_PASSWORD=0123abcd", "MIGRATOR_PASSWORD=1234bcde", "WRITER_PASSWORD=2345cdef", "READER_PASSWORD=3456def0", "EVENTS_TOKEN=4567cdef",
	"FRONT_TOKEN=" + frontToken,
}

// load reads docker-compose.yml as docker compose does. It validates the file, so an
// unknown key is an error, and resolves every reference.
func load(t *testing.T, environ []string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")},
		cli.WithEnv(environ), cli.WithInterpolation(true), cli.WithNormalization(true),
		cli.WithConsistency(true), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

func project(t *testing.T) *types.Project {
	t.Helper()
	p, err := load(t, secrets)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The services must be those of the documentation.
func TestServices(t *testing.T) {
	want := []string{"front", "indexer", "migrate", "postgres", "reader-1", "reader-2", "registry"}
	got := project(t).ServiceNames()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("services: got %v, want %v", got, want)
	}
}

// A missing secret must be an error that names it: the file must have no defaults.
func TestSecretsAreRequired(t *testing.T) {
	for i, secret := range secrets {
		name, _, _ := strings.Cut(secret, "=")
		_, err := load(t, slices.Delete(slices.Clone(secrets), i, i+1))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: got %v, want an error that names it", name, err)
		}
	}
}

// The files that services need must exist. Docker notices a missing file only at the start,
// and creates an empty directory for a missing bind mount.
func TestFilesExist(t *testing.T) {
	for name, service := range project(t).Services {
		if b := service.Build; b != nil {
			wantFile(t, name, filepath.Join(b.Context, b.Dockerfile))
		}
		for _, v := range service.Volumes {
			if v.Type == types.VolumeTypeBind {
				wantFile(t, name, v.Source)
			}
		}
	}
}

func wantFile(t *testing.T, service, name string) {
	t.Helper()
	if fi, err := os.Stat(name); err != nil || !fi.Mode().IsRegular() {
		t.Errorf("service %s needs the file %s: %v", service, name, err)
	}
}

// Files that a Dockerfile copies must exist, and .dockerignore must not exclude them.
func TestDockerfilesCopyWhatExists(t *testing.T) {
	ignored, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(root, "deploy", "*.Dockerfile"))
	if err != nil || len(names) == 0 {
		t.Fatalf("Dockerfiles: %v, %v", names, err)
	}
	for _, name := range names {
		for _, source := range copied(t, name) {
			if _, err := os.Stat(filepath.Join(root, source)); err != nil {
				t.Errorf("%s copies %s: %v", name, source, err)
			}
			first, _, _ := strings.Cut(source, "/")
			if slices.Contains(strings.Fields(string(ignored)), first) {
				t.Errorf("%s copies %s, which .dockerignore excludes", name, source)
			}
		}
	}
}

// copied returns the sources of a Dockerfile's COPY lines, except those from another
// stage.
func copied(t *testing.T, name string) []string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var sources []string
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) < 3 || words[0] != "COPY" || strings.HasPrefix(words[1], "--from=") {
			continue
		}
		sources = append(sources, words[1:len(words)-1]...)
	}
	return sources
}

// Images must be pinned by digest, because a tag can move.
func TestImagesByDigest(t *testing.T) {
	pinned := regexp.MustCompile(`^[^:@ ]+:[^:@ ]+@sha256:[0-9a-f]{64}$`) // the tag is for people
	images := map[string]string{}
	for name, service := range project(t).Services {
		if service.Build == nil {
			images["service "+name] = service.Image
			continue
		}
		for i, image := range basesOf(t, filepath.Join(service.Build.Context, service.Build.Dockerfile)) {
			images[fmt.Sprintf("service %s, stage %d", name, i+1)] = image
		}
	}
	for where, image := range images {
		if image != "scratch" && !pinned.MatchString(image) {
			t.Errorf("%s: got image %q, want name:tag@sha256:digest", where, image)
		}
	}
}

// basesOf returns the base images of a Dockerfile's stages.
func basesOf(t *testing.T, dockerfile string) []string {
	b, err := os.ReadFile(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	var images []string
	for line := range strings.Lines(string(b)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "FROM" {
			images = append(images, words[1])
		}
	}
	if len(images) == 0 {
		t.Errorf("%s has no FROM", dockerfile)
	}
	return images
}

// Every permanent service must have a healthcheck, and services that depend on it must
// wait until it is healthy. Services that depend on one that ends must wait for its
// success.
func TestHealth(t *testing.T) {
	p := project(t)
	for name, service := range p.Services {
		ends := service.Restart == "no"
		if !ends && (service.HealthCheck == nil || len(service.HealthCheck.Test) == 0 || service.HealthCheck.Disable) {
			t.Errorf("service %s has no healthcheck", name)
		}
		for other, dependency := range service.DependsOn {
			want := types.ServiceConditionHealthy
			if p.Services[other].Restart == "no" {
				want = types.ServiceConditionCompletedSuccessfully
			}
			if dependency.Condition != want {
				t.Errorf("service %s depends on %s with condition %q, want %q", name, other, dependency.Condition, want)
			}
		}
	}
}

// Only the front may publish a port, and only on this machine, because the registry
// has no passwords here.
func TestPublished(t *testing.T) {
	for name, service := range project(t).Services {
		for _, port := range service.Ports {
			if got := fmt.Sprintf("%s %s %s", name, port.HostIP, port.Published); got != "front 127.0.0.1 7080" {
				t.Errorf("got published port %s, want only front 127.0.0.1 7080", got)
			}
		}
	}
}

// The registry must send its events to a writer, with the writer's token. Otherwise
// events would be lost without an error.
func TestNotificationsReachTheIndexer(t *testing.T) {
	p := project(t)
	registry := p.Services["registry"].Environment
	for _, n := range []string{"0", "1"} { // pushes and deletions, and pulls
		endpoint, err := url.Parse(value(registry, "REGISTRY_NOTIFICATIONS_ENDPOINTS_"+n+"_URL"))
		if err != nil {
			t.Fatal(err)
		}
		to, ok := p.Services[endpoint.Hostname()]
		if !ok || endpoint.Path != "/events" {
			t.Fatalf("notifications go to %v, want /events of a service", endpoint)
		}
		if role := value(to.Environment, "PORTBOOK_ROLE"); role != "writer" {
			t.Errorf("notifications go to %s with role %q, want a writer", to.Name, role)
		}
		token := value(to.Environment, "PORTBOOK_EVENTS_TOKEN")
		headers := value(registry, "REGISTRY_NOTIFICATIONS_ENDPOINTS_"+n+"_HEADERS")
		if token == "" || !strings.Contains(headers, `"Bearer `+token+`"`) {
			t.Errorf("the registry sends the headers %q, the indexer requires the token %q", headers, token)
		}
	}
}

// The settings of each indexer must be valid, and every address in them a service.
func TestIndexerSettings(t *testing.T) {
	p := project(t)
	for _, name := range []string{"indexer", "migrate", "reader-1", "reader-2"} {
		var environ []string
		for key, v := range p.Services[name].Environment {
			environ = append(environ, key+"="+*v)
		}
		cfg, err := config.Load(config.Source{Environ: environ, OnlyDatabase: name == "migrate"})
		if err != nil {
			t.Errorf("service %s: %v", name, err)
			continue
		}
		for _, address := range []string{cfg.Registry.URL, cfg.Database.Postgres.URL} {
			if address == "" && name == "migrate" {
				continue // migrate does not use the registry
			}
			u, err := url.Parse(address)
			if err != nil {
				t.Errorf("service %s: %v", name, err)
			} else if _, ok := p.Services[u.Hostname()]; !ok {
				t.Errorf("service %s: %s is not a service", name, u.Host)
			}
		}
	}
}

// nginx must read the token that the indexers know, which its image writes: the file must be
// where nginx.conf includes it, and nobody else may get the token.
func TestFrontToken(t *testing.T) {
	p := project(t)
	front := p.Services["front"]
	included := regexp.MustCompile(`(?m)^\s*include ([^;]+);`).FindStringSubmatch(nginxConf(t))
	if included == nil {
		t.Fatal("nginx.conf includes no file")
	}
	dir, name := filepath.Split(included[1])
	dir = filepath.Clean(dir)
	written := slices.ContainsFunc(front.Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Target == "/etc/nginx/templates/"+name+".template"
	})
	if !written || value(front.Environment, "NGINX_ENVSUBST_OUTPUT_DIR") != dir || !slices.Contains(front.Tmpfs, dir) {
		t.Errorf("nothing writes %s: %v %v", included[1], front.Volumes, front.Tmpfs)
	}
	for name, service := range p.Services {
		_, knows := service.Environment["PORTBOOK_FRONT_TOKEN"]
		got := value(service.Environment, "PORTBOOK_FRONT_TOKEN") + value(service.Environment, "FRONT_TOKEN")
		if knows || name == "front" {
			if got != frontToken {
				t.Errorf("%s has the token %q, want %q", name, got, frontToken)
			}
		} else if got != "" {
			t.Errorf("%s has the token", name)
		}
		if role := value(service.Environment, "PORTBOOK_ROLE"); role != "" && !knows {
			t.Errorf("%s does not have the token", name)
		}
	}
}

// The servers that nginx passes requests to must be services.
func TestFrontReachesServices(t *testing.T) {
	p := project(t)
	for _, address := range upstreams(t) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			t.Errorf("nginx.conf: server %s: %v", address, err)
		} else if _, ok := p.Services[host]; !ok {
			t.Errorf("nginx.conf: server %s is not a service", address)
		}
	}
}

func value(env types.MappingWithEquals, key string) string {
	if v := env[key]; v != nil {
		return *v
	}
	return ""
}
