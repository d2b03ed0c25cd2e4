package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"golang.org/x/term"

	"github.com/portbook/portbook/indexer/config"
)

// registryOptions are the flags of registry-config.
type registryOptions struct {
	jwks, htpasswd, listen, events, out string
	pulls, onlyAuth                     bool
}

func registryConfigCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "registry-config", Short: "Print the registry's configuration",
		Long: `Prints the configuration of the registry for storage, redis, auth and events of ours:
where it keeps its content, where it caches what it knows of it, whom it lets in, and
where it reports pushes and deletions. With --only-auth it prints the section auth
alone, for a configuration of your own. It connects to nothing.

With auth.keys the registry trusts our tokens. The realm, to which it sends clients for
one, is below registry.public_url: clients refuse one on another host than the
registry's. Without auth.keys it asks for passwords of --htpasswd, or lets everybody in
if auth.method is none.

The configuration has secrets: keys of the storage, the password of Redis, the token of
events. So it is not printed to a terminal: --out writes a file that only its owner can
read.`,
		Example: `  FS_STORAGE_ROOT=/srv/registry portbook registry-config --out registry.yml
  portbook registry-config --config portbook.yaml --jwks /etc/registry/jwks.json --out registry.yml
  portbook registry-config --only-auth --jwks /etc/registry/jwks.json`,
		Args: noArguments,
	}
	var o registryOptions
	flags := command.Flags()
	flags.StringVar(&o.jwks, "jwks", "/etc/registry/jwks.json", "`file` of the registry with the public keys")
	flags.StringVar(&o.htpasswd, "htpasswd", "",
		"`file` of the registry with users and bcrypt passwords, instead of our tokens")
	flags.StringVar(&o.listen, "listen", "",
		"`host:port` that the registry listens on; default: that of registry.url, or 127.0.0.1:5000")
	flags.StringVar(&o.events, "events-url", "",
		"`URL` that the registry reports events to; default: /events at http.address")
	flags.BoolVar(&o.pulls, "pulls", false, "report pulls too, which we then count")
	flags.StringVar(&o.out, "out", "", "`file` to write instead of printing, for its owner only")
	flags.BoolVar(&o.onlyAuth, "only-auth", false, "print only the section auth")
	command.RunE = func(command *cobra.Command, _ []string) error { return writeRegistryConfig(command, o) }
	return command
}

func writeRegistryConfig(command *cobra.Command, o registryOptions) error {
	from := source(command)
	from.ForRegistry = !o.onlyAuth
	c, err := config.Load(from)
	if err != nil {
		return fmt.Errorf("configuration:\n%w", err)
	}
	var content any
	if o.onlyAuth {
		content, err = registryAuth(c, o.jwks)
	} else {
		content, err = registryFile(c, o)
	}
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(content)
	if err != nil {
		return err
	}
	if o.out != "" {
		return writeSecret(o.out, text)
	}
	out := command.OutOrStdout()
	if !o.onlyAuth && isTerminal(out) && hasSecrets(c) {
		return errors.New("the configuration has secrets, and this is a terminal: write it to a file with --out FILE")
	}
	_, err = out.Write(text)
	return err
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// hasSecrets reports whether the registry's configuration has secrets.
func hasSecrets(c config.Config) bool {
	return c.Events.Token+c.Storage.S3.SecretKey+c.Storage.Azure.AccountKey+c.Redis.Password != ""
}

// section is a mapping of the registry's configuration. Its keys are written in order of name.
type section map[string]any

// registryFile returns the registry's configuration. What does not depend on ours is as in
// registry/config/filesystem.yml, which explains it.
func registryFile(c config.Config, o registryOptions) (section, error) {
	auth, err := registryLogins(c, o)
	if err != nil {
		return nil, err
	}
	events, err := eventsURL(c, o)
	if err != nil {
		return nil, err
	}
	file := section{
		"version": 0.1,
		"log":     section{"level": "warn", "accesslog": section{"disabled": false}},
		"http": section{
			"addr":         cmp.Or(o.listen, registryAddress(c.Registry.URL)),
			"draintimeout": "10s",
			"headers":      section{"X-Content-Type-Options": []string{"nosniff"}},
			"debug":        section{"prometheus": section{"enabled": true, "path": "/metrics"}},
		},
		"storage": registryStorage(c.Storage),
		"health":  section{"storagedriver": section{"enabled": true, "interval": "10s", "threshold": 3}},
		"catalog": section{"maxentries": 100000},
		"notifications": section{
			"events": section{"includereferences": true},
			"endpoints": []section{
				registryEndpoint("indexer", events, c.Events.Token, true, "pull", "mount"),
				registryEndpoint("pulls", events, c.Events.Token, o.pulls, "push", "delete", "mount"),
			},
		},
	}
	if auth != nil {
		file["auth"] = auth
	}
	if c.Storage.Cache.BlobDescriptor == "redis" {
		file["redis"] = registryRedis(c.Redis)
	}
	return file, nil
}

// registryLogins returns the section auth, or nil if the registry lets everybody in.
func registryLogins(c config.Config, o registryOptions) (any, error) {
	switch {
	case o.htpasswd != "" && c.Auth.Keys != "":
		return nil, errors.New("--htpasswd and auth.keys are two kinds of logins, and a registry has one: remove one")
	case o.htpasswd != "":
		return section{"htpasswd": section{"realm": "registry", "path": o.htpasswd}}, nil
	case c.Auth.Keys != "":
		auth, err := registryAuth(c, o.jwks)
		return auth.Auth, err
	case c.Auth.Method != config.NoLogins:
		return nil, fmt.Errorf("auth.method is %s, but without auth.keys the registry would let everybody in: make keys"+
			" with `portbook keys rotate FILE` and set auth.keys, or give users passwords with --htpasswd FILE", c.Auth.Method)
	}
	return nil, nil
}

// registryAddress returns what the registry listens on so that it answers at address.
func registryAddress(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "127.0.0.1:5000"
	}
	port := cmp.Or(u.Port(), map[string]string{"https": "443"}[u.Scheme], "80")
	if here := net.JoinHostPort(u.Hostname(), port); config.IsLoopback(here) {
		return here
	}
	return ":" + port
}

// eventsURL returns where the registry reports events.
func eventsURL(c config.Config, o registryOptions) (string, error) {
	if o.events != "" {
		if u, err := url.Parse(o.events); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return "", errors.New("--events-url is not a URL: write one such as http://portbook:8080/events")
		}
		return o.events, nil
	}
	host, port, err := net.SplitHostPort(c.HTTP.Address)
	if err != nil || port == "0" {
		return "", fmt.Errorf("http.address %q does not say where the registry reaches us: set --events-url", c.HTTP.Address)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + "/events", nil
}

// registryEndpoint returns an endpoint of notifications. It gets no events of blobs: the indexer
// finds those that it needs through manifests.
func registryEndpoint(name, address, token string, enabled bool, ignore ...string) section {
	e := section{
		"name": name, "disabled": !enabled, "url": address, "timeout": "5s", "threshold": 3, "backoff": "1s",
		"ignore": section{"mediatypes": []string{"application/octet-stream"}, "actions": ignore},
	}
	if token != "" {
		e["headers"] = section{"Authorization": []string{"Bearer " + token}}
	}
	return e
}

// registryStorage returns the section storage.
func registryStorage(s config.Storage) section {
	storage := section{
		string(s.Type()): registryDriver(s),
		"delete":         section{"enabled": true},
		"maintenance": section{
			"uploadpurging": section{"enabled": true, "age": "168h", "interval": "24h", "dryrun": false},
			"readonly":      section{"enabled": false},
		},
	}
	switch s.Cache.BlobDescriptor {
	case "redis":
		storage["cache"] = section{"blobdescriptor": "redis"}
	case "inmemory":
		storage["cache"] = section{"blobdescriptor": "inmemory", "blobdescriptorsize": s.Cache.BlobDescriptorSize}
	}
	if s.Redirect.Disable {
		storage["redirect"] = section{"disable": true}
	}
	return storage
}

// registryDriver returns the parameters of the storage's driver.
func registryDriver(s config.Storage) section {
	switch s.Type() {
	case config.S3Storage:
		return registryS3(s.S3)
	case config.GCSStorage:
		return given(section{"bucket": s.GCS.Bucket, "keyfile": s.GCS.KeyFile})
	case config.AzureStorage:
		driver := given(section{
			"accountname": s.Azure.AccountName, "container": s.Azure.Container, "accountkey": s.Azure.AccountKey,
			"serviceurl": s.Azure.ServiceURL,
		})
		driver["credentials"] = section{"type": "default_credentials"}
		if s.Azure.AccountKey != "" {
			driver["credentials"] = section{"type": "shared_key"}
		}
		return driver
	default:
		return section{"rootdirectory": s.Filesystem.RootDirectory}
	}
}

// registryS3 returns the parameters of S3. Stores that are not Amazon's have the bucket in the
// path of their addresses, and mostly ignore the region, without which the driver does not start.
func registryS3(s config.StorageS3) section {
	driver := given(section{
		"bucket": s.Bucket, "region": cmp.Or(s.Region, "us-east-1"), "regionendpoint": s.RegionEndpoint,
		"accesskey": s.AccessKey, "secretkey": s.SecretKey,
	})
	if s.RegionEndpoint != "" {
		driver["forcepathstyle"] = true
	}
	return driver
}

// registryRedis returns the section redis, with the times of registry/config/redis.yml.
func registryRedis(r config.Redis) section {
	redis := given(section{"username": r.Username, "password": r.Password})
	redis["addrs"], redis["db"] = r.Addrs, r.DB
	redis["dialtimeout"], redis["readtimeout"], redis["writetimeout"] = "1s", "500ms", "500ms"
	return redis
}

// given returns s without empty values.
func given(s section) section {
	for name, value := range s {
		if value == "" {
			delete(s, name)
		}
	}
	return s
}

type registrySection struct {
	Auth registryAuthSection `yaml:"auth"`
}

type registryAuthSection struct {
	Token registryToken `yaml:"token"`
}

type registryToken struct {
	Realm             string   `yaml:"realm"`
	Service           string   `yaml:"service"`
	Issuer            string   `yaml:"issuer"`
	JWKS              string   `yaml:"jwks"`
	SigningAlgorithms []string `yaml:"signingalgorithms,flow"`
}

// registryAuth returns the section auth of the registry's configuration.
func registryAuth(c config.Config, jwks string) (section registrySection, err error) {
	if c.Auth.Keys == "" {
		return section, errors.New("auth.keys is not set: without keys there are no tokens to trust")
	}
	u, err := url.Parse(c.Registry.PublicURL)
	if err != nil || u.Host == "" {
		return section, fmt.Errorf("registry.public_url is %q: set it to the address at which clients reach the registry,"+
			" such as https://registry.example.org", c.Registry.PublicURL)
	}
	section.Auth.Token = registryToken{
		Realm: u.Scheme + "://" + u.Host + "/auth/token", Service: c.Auth.Service, Issuer: c.Auth.Issuer, JWKS: jwks,
		SigningAlgorithms: []string{"EdDSA"},
	}
	return section, nil
}
