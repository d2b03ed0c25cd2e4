package indexer

import (
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
)

// The grammar of repository paths and tags, distribution-spec 1.1 "Pulling
// manifests". reference.NameRegexp would also take a host.
var (
	anchoredName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	anchoredTag  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// maxRepositoryName is the maximum length of a repository name in bytes: 255, as in the
// stock registry (distribution/reference v0.6.0, RepositoryNameTotalLengthMax).
const maxRepositoryName = 255

// A Reference names a repository, and optionally a tag or a digest in it.
type Reference struct {
	Repository string
	Tag        string
	Digest     digest.Digest
}

// ParseReference parses name[:tag][@digest]. The name is a repository name without a
// host. It returns ErrInvalid for anything else.
func ParseReference(s string) (Reference, error) {
	var ref Reference
	name, dgst, hasDigest := strings.Cut(s, "@")
	if hasDigest {
		d, err := ParseDigest(dgst)
		if err != nil {
			return ref, err
		}
		ref.Digest = d
	}
	// A colon after the last slash begins a tag; names contain none.
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name, ref.Tag = name[:colon], name[colon+1:]
		if !IsTag(ref.Tag) {
			return ref, InvalidTag(ref.Tag)
		}
	}
	if !IsRepository(name) {
		return ref, InvalidRepository(name)
	}
	ref.Repository = name
	return ref, nil
}

// String returns name[:tag][@digest].
func (r Reference) String() string {
	s := r.Repository
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

// A TagOrDigest names a manifest in a repository: by a tag, or by its digest.
type TagOrDigest string

// IsDigest reports whether it is a digest.
func (r TagOrDigest) IsDigest() bool { return r.Digest() != "" }

// IsTag reports whether it is a tag.
func (r TagOrDigest) IsTag() bool { return !r.IsDigest() }

// Digest returns the digest, or "" for a tag.
func (r TagOrDigest) Digest() digest.Digest {
	if !strings.Contains(string(r), ":") {
		return "" // a tag; digest.Parse would need regular expressions to find out
	}
	d, err := digest.Parse(string(r))
	if err != nil {
		return ""
	}
	return d
}

// Tag returns the tag, or "" for a digest.
func (r TagOrDigest) Tag() string {
	if r.IsDigest() {
		return ""
	}
	return string(r)
}

// In returns the reference to the manifest in a repository.
func (r TagOrDigest) In(repository string) Reference {
	return Reference{Repository: repository, Tag: r.Tag(), Digest: r.Digest()}
}

// ParseTagOrDigest parses a tag or a digest. It returns ErrInvalid for anything else.
func ParseTagOrDigest(s string) (TagOrDigest, error) {
	if strings.Contains(s, ":") {
		_, err := ParseDigest(s)
		return TagOrDigest(s), err
	}
	if !IsTag(s) {
		return "", InvalidTag(s)
	}
	return TagOrDigest(s), nil
}

// IsRepository reports whether s is a repository name that a registry accepts: it
// matches the grammar of distribution-spec 1.1 and has at most 255 bytes.
func IsRepository(s string) bool {
	return len(s) <= maxRepositoryName && anchoredName.MatchString(s)
}

// IsTag reports whether s is a tag that a registry accepts.
func IsTag(s string) bool { return anchoredTag.MatchString(s) }

// InvalidRepository returns the ErrInvalid for a name that IsRepository refuses.
func InvalidRepository(s string) error {
	return Invalid("%.64q is not a repository name: write lower-case letters, digits and single . _ - "+
		"in parts separated by /, at most %d bytes", s, maxRepositoryName)
}

// InvalidTag returns the ErrInvalid for a tag that IsTag refuses.
func InvalidTag(s string) error {
	return Invalid("%.64q is not a tag: write at most 128 letters, digits and . _ -, "+
		"and begin with a letter, a digit or _", s)
}

// ParseDigest parses a digest of sha256, sha384 or sha512. It returns ErrInvalid for
// anything else.
func ParseDigest(s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	if err != nil {
		return "", Invalid("%.64q is not a digest: write sha256: and 64 hexadecimal digits", s)
	}
	return d, nil
}
