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

// A site is where clients reach the registry, as far as the configuration
// tells. If it names no host, only a browser knows one: the Host of a request is
// what anybody may write into it, and a page that a cache keeps for others must
// not send them to pull from there.
type site struct {
	host  string // as commands write it; "" if it is the host that the browser shows
	plain bool   // without TLS
}

// siteOf reads the public URL.
func siteOf(publicURL string) site {
	u, err := url.Parse(publicURL)
	if err != nil || u.Host == "" {
		return site{}
	}
	return site{host: commandHost(u), plain: u.Scheme == "http"}
}

// commandHost gives the host of a URL as commands need it. They take what has
// neither a dot nor a port for a name at Docker Hub, all but localhost
// (github.com/distribution/reference, splitDockerDomain), and would pull
// somebody else's image: so such a host comes with its port.
func commandHost(u *url.URL) string {
	if strings.ContainsAny(u.Host, ".:") || u.Host == "localhost" {
		return u.Host
	}
	if u.Scheme == "http" {
		return u.Host + ":80"
	}
	return u.Host + ":443"
}

// A command is a line to copy into a shell, in pieces: what a registry without
// TLS needs, and where the registry is, may be known to the browser only.
type command struct {
	site
	Tool   string
	Verb   string // how it begins
	Flag   string // what follows it if the registry has no TLS; "" if the tool takes none
	Before string // what stands before the host
	After  string // what stands behind it
}

// Open reports whether only the browser knows the host.
func (c command) Open() bool { return c.host == "" }

// Text is the whole line, if the host is known.
func (c command) Text() string {
	if c.plain {
		return c.Verb + c.Flag + c.Before + c.host + c.After
	}
	return c.Verb + c.Before + c.host + c.After
}

// commands are lines for one thing, one for each tool.
type commands []command

// Open reports whether only the browser knows the host of all of them.
func (l commands) Open() bool { return len(l) > 0 && l[0].Open() }

// ForDocker reports whether docker is among the tools. It has no flag for a
// registry without TLS: its daemon is told by a file.
func (l commands) ForDocker() bool {
	for _, c := range l {
		if c.Tool == "docker" {
			return true
		}
	}
	return false
}

// Refused reports whether docker refuses the registry until its daemon is told
// to take it without TLS. It takes a loopback address by itself.
func (l commands) Refused() bool {
	return l.ForDocker() && l[0].plain && !isLoopback(l[0].host)
}

func isLoopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	return name == "localhost" || net.ParseIP(name).IsLoopback()
}

// What tools want to hear of a registry without TLS; docker takes nothing.
const (
	podmanPlain = " --tls-verify=false"
	skopeoFrom  = " --src-tls-verify=false"
	skopeoTo    = " --dest-tls-verify=false"
	orasPlain   = " --plain-http" // helm's too
)

// pullCommands are how to get what a reference shows: by the clients that people
// have, or by those made for the type of an artifact.
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
		// A tag has no +, so helm writes _ for it, and reads it back.
		return commands{{s, "helm", "helm pull", orasPlain, " oci://", "/" + ref.Repository + " --version " + strings.ReplaceAll(ref.Tag, "_", "+")}, oras}
	case m.Kind == indexer.KindArtifact, m.Kind == indexer.KindImage:
		return commands{oras}
	}
	return nil
}

// unpacks reports whether the layers of an image are archives, so that a client
// can make a filesystem of them. A signature of cosign has the config of an image,
// and podman fails at its layer.
func unpacks(m indexer.Manifest) bool {
	return len(m.Layers) == 0 || slices.ContainsFunc(m.Layers, func(l ocispec.Descriptor) bool { return strings.Contains(l.MediaType, ".tar") })
}

// firstPush are how to bring a first image into an empty registry.
func (s site) firstPush() commands {
	const image = "/demo/alpine:latest"
	return commands{
		{s, "docker", "docker tag", "", " alpine ", image},
		{s, "docker", "docker push", "", " ", image},
		{s, "skopeo", "skopeo copy", skopeoTo, " docker://docker.io/library/alpine docker://", image},
	}
}
