package sweep

import (
	"encoding/hex"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Where things are (distribution v3.1.2, registry/storage/paths.go), and our trash beside.
const (
	root             = "/docker/registry/v2"
	blobsRoot        = root + "/blobs"
	repositoriesRoot = root + "/repositories"
	trashRoot        = "/portbook/trash"
)

// A kind is what a file of the storage is.
type kind int

const (
	other    kind = iota
	data          // of a blob
	layer         // a link to a layer or config
	manifest      // a link to a manifest
	upload        // a file of an upload
	trash         // data of a blob in the trash
)

// A file is a file of the storage, as its path tells.
type file struct {
	kind       kind
	repository string // of a link or an upload
	digest     string // ALGORITHM:HEX, not validated
	upload     string // the id of the upload
	trashed    time.Time
	path       string
	size       int64
	modified   time.Time
}

// classify tells from its path what a file is.
func classify(name string) file {
	if rest, ok := strings.CutPrefix(name, blobsRoot+"/"); ok {
		if p := strings.Split(rest, "/"); len(p) == 4 && p[3] == "data" {
			return file{kind: data, digest: p[0] + ":" + p[2]}
		}
	}
	if rest, ok := strings.CutPrefix(name, trashRoot+"/"); ok {
		if p := strings.Split(rest, "/"); len(p) == 3 && p[2] == "data" {
			return file{kind: trash, digest: "sha256:" + p[1], trashed: timeOfStamp(p[0])}
		}
	}
	if rest, ok := strings.CutPrefix(name, repositoriesRoot+"/"); ok {
		return classifyInRepository(rest)
	}
	return file{}
}

// classifyInRepository is classify for a path below the repositories. A name of a repository
// has no component that begins with an underscore.
func classifyInRepository(name string) file {
	repository, rest, _ := strings.Cut(name, "/_")
	p := strings.Split(rest, "/")
	f := file{repository: repository}
	switch {
	case p[0] == "layers" && len(p) == 4 && p[3] == "link":
		f.kind, f.digest = layer, p[1]+":"+p[2]
	case p[0] == "manifests" && len(p) == 5 && p[1] == "revisions" && p[4] == "link":
		f.kind, f.digest = manifest, p[2]+":"+p[3]
	case p[0] == "uploads" && len(p) >= 3:
		f.kind, f.upload = upload, p[1]
	}
	return f
}

// stampLayout is how a directory of the trash is named by its time. A random text follows.
const stampLayout = "20060102T150405.000000000Z"

// timeOfStamp returns the zero time for a name that is not ours.
func timeOfStamp(name string) time.Time {
	text, _, _ := strings.Cut(name, "-")
	t, err := time.Parse(stampLayout, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// trashedAt returns when a file was moved to the trash. For a directory that is not named by a
// time it is when the file was written.
func (f file) trashedAt() time.Time {
	if f.trashed.IsZero() {
		return f.modified
	}
	return f.trashed
}

// keyOf returns the key of a digest; false if it is not a valid sha256 digest.
func keyOf(text string) (k key, ok bool) {
	d, err := digest.Parse(text)
	if err != nil || d.Algorithm() != digest.SHA256 {
		return k, false
	}
	n, err := hex.Decode(k[:], []byte(d.Encoded()))
	return k, err == nil && n == len(k)
}

func (k key) String() string { return "sha256:" + hex.EncodeToString(k[:]) }

// place returns the directory of a blob.
func (k key) place() string {
	h := hex.EncodeToString(k[:])
	return path.Join(blobsRoot, "sha256", h[:2], h)
}

// linkIn returns the link of a layer or config in a repository.
func (k key) linkIn(repository string) string {
	return path.Join(repositoriesRoot, repository, "_layers", "sha256", hex.EncodeToString(k[:]), "link")
}
