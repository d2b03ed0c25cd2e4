package ingest

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
)

// Text from outside is cleaned once, by this file: the texts of a manifest by clean, those
// of an event by cut, and reasons by reason. Package postgres stores these texts as they
// are, and PostgreSQL refuses a text with NUL or invalid UTF-8. Names, tags and digests
// need no cleaning: IsRepository, IsTag and digest.Parse accept no such text.

const (
	// maxText is the maximum number of bytes of a short text, such as a media type or a
	// part of a platform: 255. The database stores them in dictionaries and indexes. RFC
	// 6838, 4.2 allows 127 for each half of a media type; 255 holds both.
	maxText = 255
	// maxProblem is the maximum number of bytes of a problem or a reason: 1,000. They are
	// sentences of at most 300 bytes, but may quote a number or a media type.
	maxProblem = 1000
)

// clean replaces the bytes of a manifest's texts that are no text, and cuts the texts that
// are too long. The lengths of labels and annotations are limited by limitMetadata.
func clean(m *indexer.Manifest) {
	m.MediaType, m.ArtifactType = cut(m.MediaType), cut(m.ArtifactType)
	m.Platform = cleanPlatform(m.Platform)
	m.Labels, m.Annotations = cleanStrings(m.Labels), cleanStrings(m.Annotations)
	if m.Config != nil {
		config := cleanDescriptor(*m.Config)
		m.Config = &config
	}
	for i, l := range m.Layers {
		m.Layers[i] = cleanDescriptor(l)
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		e.MediaType, e.Platform, e.Annotations = cut(e.MediaType), cleanPlatform(e.Platform), cleanStrings(e.Annotations)
	}
	for i, p := range m.Problems {
		m.Problems[i] = cutTo(maxProblem, p)
	}
}

func cleanPlatform(p indexer.Platform) indexer.Platform {
	return indexer.Platform{OS: cut(p.OS), Architecture: cut(p.Architecture), Variant: cut(p.Variant)}
}

// cleanDescriptor returns the fields of a descriptor that we use.
func cleanDescriptor(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: cut(d.MediaType), Digest: d.Digest, Size: d.Size}
}

func cleanStrings(set map[string]string) map[string]string {
	if set == nil {
		return nil
	}
	cleaned := make(map[string]string, len(set))
	for k, v := range set {
		cleaned[indexer.CleanText(k)] = indexer.CleanText(v)
	}
	return cleaned
}

// reason returns the public text of an error, which is also stored.
func reason(err error) string { return cutTo(maxProblem, indexer.Reason(err)) }

// cut returns s cleaned by indexer.CleanText and cut to maxText bytes.
func cut(s string) string { return cutTo(maxText, s) }

func cutTo(most int, s string) string {
	s = indexer.CleanText(s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}
