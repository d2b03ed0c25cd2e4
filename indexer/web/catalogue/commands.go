package catalogue

import (
	"net"
	"net/url"
	"path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
)

// A site is where clients reach the registry, as far as the configuration says. If it
// names no host, only the browser knows one: anybody can forge the Host header of a
// request, and a cached page must not send other users to that host.
type site struct {
	host       string // as written in commands; "" if it is the host that the browser shows
	withoutTLS bool
}

// siteOf parses the public URL.
func siteOf(publicURL string) site {
	u, err := url.Parse(publicURL)
	if err != nil || u.Host == "" {
		return site{}
	}
	return site{host: commandHost(u), withoutTLS: u.Scheme == "http"}
}

// commandHost returns the host of u as commands need it. They take a host without a dot
// and without a port, other than localhost, for a name on Docker Hub
// (github.com/distribution/reference, splitDockerDomain) and would pull somebody else's
// image. Such a host therefore gets its port.
func commandHost(u *url.URL) string {
	if strings.ContainsAny(u.Host, ".:") || u.Host == "localhost" {
		return u.Host
	}
	if u.Scheme == "http" {
		return u.Host + ":80"
	}
	return u.Host + ":443"
}

// A command is a shell command to copy, in parts: the browser alone may know the host
// and whether the registry needs the flag for plain HTTP.
type command struct {
	site
	Tool   string
	Verb   string // the command and subcommand
	Flag   string // follows Verb if the registry has no TLS; "" if the tool has no such flag
	Before string // the text before the host
	After  string // the text after the host
}

// Open reports whether only the browser knows the host.
func (c command) Open() bool { return c.host == "" }

// Text returns the whole command if the host is known.
func (c command) Text() string {
	if c.withoutTLS {
		return c.Verb + c.Flag + c.Before + c.host + c.After
	}
	return c.Verb + c.Before + c.host + c.After
}

// commands do the same thing, one for each tool.
type commands []command

// Open reports whether only the browser knows the host of the commands.
func (l commands) Open() bool { return len(l) > 0 && l[0].Open() }

// ForDocker reports whether docker is among the tools. Docker has no flag for a
// registry without TLS: its daemon reads that from a file.
func (l commands) ForDocker() bool {
	for _, c := range l {
		if c.Tool == "docker" {
			return true
		}
	}
	return false
}

// Refused reports whether docker refuses the registry until its daemon is configured to
// use it without TLS. Docker accepts a loopback address by default.
func (l commands) Refused() bool {
	return l.ForDocker() && l[0].withoutTLS && !isLoopback(l[0].host)
}

func isLoopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	return name == "localhost" || net.ParseIP(name).IsLoopback()
}

// Flags for a registry without TLS; docker has none.
const (
	podmanPlain = " --tls-verify=false"
	skopeoFrom  = " --src-tls-verify=false"
	skopeoTo    = " --dest-tls-verify=false"
	orasPlain   = " --plain-http" // for helm too
)

// pullCommands returns the commands that pull ref: those of common clients, or those
// made for the type of an artifact.
func (s site) pullCommands(ref indexer.Reference, m indexer.Manifest) commands {
	whole := "/" + ref.String()
	oras := command{s, "oras", "oras pull", orasPlain, " ", whole}
	switch {
	case m.Kind == indexer.KindIndex, m.Kind == indexer.KindImage && unpacks(m):
		return commands{
			{s, "docker", "docker pull", "", " ", whole},
			{s, "podman", "podman pull", podmanPlain, " ", whole},
			{s, "skopeo", "skopeo copy", skopeoFrom, " docker://", whole + " oci:" + path.Base(ref.Repository)},
		}
	case strings.Contains(m.ArtifactType, "vnd.cncf.helm") && ref.Tag != "":
		// Tags cannot contain +, so helm writes _ for it and converts it back.
		chart := "/" + ref.Repository + " --version " + strings.ReplaceAll(ref.Tag, "_", "+")
		return commands{{s, "helm", "helm pull", orasPlain, " oci://", chart}, oras}
	case m.Kind == indexer.KindArtifact, m.Kind == indexer.KindImage:
		return commands{oras}
	}
	return nil
}

// unpacks reports whether the layers of an image are archives that a client can unpack.
// A cosign signature has the config of an image, and podman fails at its layer.
func unpacks(m indexer.Manifest) bool {
	isTar := func(l ocispec.Descriptor) bool { return strings.Contains(l.MediaType, ".tar") }
	return len(m.Layers) == 0 || slices.ContainsFunc(m.Layers, isTar)
}

// firstPush returns the commands that push a first image to an empty registry.
func (s site) firstPush() commands {
	const image = "/demo/alpine:latest"
	return commands{
		{s, "docker", "docker tag", "", " alpine ", image},
		{s, "docker", "docker push", "", " ", image},
		{s, "skopeo", "skopeo copy", skopeoTo, " docker://docker.io/library/alpine docker://", image},
	}
}
