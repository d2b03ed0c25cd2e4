package copier

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Where things are (distribution v3.1.2, registry/storage/paths.go), and what we stage beside.
const (
	root             = "/docker/registry/v2"
	blobsRoot        = root + "/blobs"
	repositoriesRoot = root + "/repositories"
	stageRoot        = "/portbook/copy"
)

// A kind is what a file of the storage is. The copy goes through the kinds in this order.
type kind int

const (
	data     kind = iota // of a blob
	layer                // a link to a layer or config
	manifest             // a link to a manifest
	tag                  // a link of a tag to its manifest, present or former
	other                // what no registry needs
)

// kinds is how many kinds are copied.
const kinds = 4

// A file is a file of the storage, as its path tells.
type file struct {
	kind       kind
	repository string // of a link
	digest     string // ALGORITHM:HEX, not validated; empty for the present link of a tag
	path       string
	size       int64
}

// classify tells from its path what a file is.
func classify(name string) file {
	if rest, ok := strings.CutPrefix(name, blobsRoot+"/"); ok {
		if p := strings.Split(rest, "/"); len(p) == 4 && p[3] == "data" {
			return file{kind: data, digest: p[0] + ":" + p[2], path: name}
		}
	}
	if rest, ok := strings.CutPrefix(name, repositoriesRoot+"/"); ok {
		return classifyLink(name, rest)
	}
	return file{kind: other, path: name}
}

// classifyLink is classify for a path below the repositories. A name of a repository has no
// component that begins with an underscore.
func classifyLink(name, below string) file {
	repository, rest, _ := strings.Cut(below, "/_")
	p := strings.Split(rest, "/")
	f := file{kind: other, repository: repository, path: name}
	if p[len(p)-1] != "link" {
		return f
	}
	switch {
	case p[0] == "layers" && len(p) == 4:
		f.kind, f.digest = layer, p[1]+":"+p[2]
	case p[0] == "manifests" && p[1] == "revisions" && len(p) == 5:
		f.kind, f.digest = manifest, p[2]+":"+p[3]
	case p[0] == "manifests" && p[1] == "tags" && len(p) == 5 && p[3] == "current":
		f.kind = tag
	case p[0] == "manifests" && p[1] == "tags" && len(p) == 7 && p[3] == "index":
		f.kind, f.digest = tag, p[4]+":"+p[5]
	}
	return f
}

// blobFile returns the file of the data of a blob.
func blobFile(d digest.Digest) file {
	name := fmt.Sprintf("%s/%s/%.2s/%[3]s/data", blobsRoot, d.Algorithm(), d.Encoded())
	return file{kind: data, digest: d.String(), path: name}
}

// layerFile returns the link of a layer or config in a repository.
func layerFile(repository string, d digest.Digest) file {
	name := fmt.Sprintf("%s/%s/_layers/%s/%s/link", repositoriesRoot, repository, d.Algorithm(), d.Encoded())
	return file{kind: layer, repository: repository, digest: d.String(), path: name}
}

// manifestFile returns the link of a manifest in a repository.
func manifestFile(repository string, d digest.Digest) file {
	name := fmt.Sprintf("%s/%s/_manifests/revisions/%s/%s/link",
		repositoriesRoot, repository, d.Algorithm(), d.Encoded())
	return file{kind: manifest, repository: repository, digest: d.String(), path: name}
}
