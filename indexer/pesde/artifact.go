package pesde

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of a package in the registry.
const (
	ArtifactType = "application/vnd.pesde.package.v1"
	ConfigType   = "application/vnd.pesde.package.config.v1+json"
	ArchiveType  = "application/vnd.pesde.package.archive.v1.tar+gzip"
	textType     = "text/markdown"
)

// Annotations of a package besides those of the OCI.
const (
	targetAnnotation    = "dev.pesde.target"
	publisherAnnotation = "dev.pesde.publisher"
)

// An Artifact is a package as the registry stores it: push the Blobs, then the Manifest under the
// tag of its ID.
type Artifact struct {
	Manifest []byte
	Digest   digest.Digest // of Manifest
	Blobs    []Blob
}

// A Blob is what a manifest names.
type Blob struct {
	Digest digest.Digest
	Data   []byte
}

// Stored is what the manifest of a package says.
type Stored struct {
	Name      Name
	ID        ID
	Publisher string
	Entry     Entry
	Archive   ocispec.Descriptor
	Readme    *ocispec.Descriptor           // nil: there is none
	Pages     map[string]ocispec.Descriptor // by hash
}

// packageConfig is the config of the manifest. Its bytes are also in the data of its descriptor, so
// whoever has the manifest needs no further request.
type packageConfig struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Publisher string `json:"publisher,omitempty"`
	Entry     Entry  `json:"entry"`
}

// encodeJSON returns v as JSON in which < and & are themselves.
func encodeJSON(v any) []byte {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // our types can all be encoded
	}
	return bytes.TrimRight(text.Bytes(), "\n")
}

// Make returns the artifact of a package. publisher is who published it, as names go in our
// records; "" if that is not known. The same arguments make the same bytes.
func Make(p Package, archive []byte, publishedAt time.Time, publisher string) (Artifact, error) {
	e := p.Entry
	e.PublishedAt = Timestamp(publishedAt)
	var a Artifact
	config := encodeJSON(packageConfig{p.Name.String(), p.ID.Version.String(), publisher, e})
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactType,
		Config: a.add(ConfigType, config, ""), Annotations: annotationsOf(p, e, publisher),
	}
	m.Config.Data = config
	title := fmt.Sprintf("%s-%s-%s.tar.gz", p.Name.Name, p.ID.Version, p.ID.Target)
	m.Layers = append(m.Layers, a.add(ArchiveType, archive, title))
	if p.Readme != nil {
		m.Layers = append(m.Layers, a.add(textType, p.Readme, readmeTitle))
	}
	for _, page := range p.Pages {
		m.Layers = append(m.Layers, a.add(textType, page.Text, pagePrefix+page.Name+".md"))
	}
	a.Manifest = encodeJSON(m)
	a.Digest = digest.FromBytes(a.Manifest)
	_, err := ParseArtifact(a.Manifest)
	return a, err
}

// Titles of layers: the readme, and what the paths of pages begin with.
const (
	readmeTitle = "README.md"
	pagePrefix  = "docs/"
)

// add adds a blob, and returns its descriptor.
func (a *Artifact) add(mediaType string, data []byte, title string) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if title != "" {
		d.Annotations = map[string]string{ocispec.AnnotationTitle: title}
	}
	a.Blobs = append(a.Blobs, Blob{d.Digest, data})
	return d
}

func annotationsOf(p Package, e Entry, publisher string) map[string]string {
	all := map[string]string{
		ocispec.AnnotationTitle:       p.Name.String(),
		ocispec.AnnotationVersion:     p.ID.Version.String(),
		ocispec.AnnotationDescription: e.Description,
		ocispec.AnnotationLicenses:    e.License,
		ocispec.AnnotationAuthors:     strings.Join(e.Authors, ", "),
		ocispec.AnnotationSource:      e.Repository,
		ocispec.AnnotationCreated:     e.PublishedAt,
		targetAnnotation:              string(p.ID.Target),
		publisherAnnotation:           publisher,
	}
	for key, value := range all {
		if value == "" {
			delete(all, key)
		}
	}
	return all
}

// IsArtifact reports whether a manifest with this artifact type and media type of its config is
// that of a package.
func IsArtifact(artifactType, configType string) bool {
	return artifactType == ArtifactType && configType == ConfigType
}

// ParseArtifact returns what a manifest says. It returns an error if the manifest is not that of a
// package, contradicts itself, or has an entry that clients of pesde could not read.
func ParseArtifact(text []byte) (s Stored, err error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return s, fmt.Errorf("the manifest is not JSON: %w", err)
	}
	if !IsArtifact(m.ArtifactType, m.Config.MediaType) {
		return s, errors.New("the manifest is not that of a package")
	}
	if m.Config.Digest != digest.FromBytes(m.Config.Data) || m.Config.Size != int64(len(m.Config.Data)) {
		return s, errors.New("the descriptor of the config has other data than its digest says, or none")
	}
	var c packageConfig
	if err := json.Unmarshal(m.Config.Data, &c); err != nil {
		return s, fmt.Errorf("the config is not that of a package: %w", err)
	}
	if err := s.read(c); err != nil {
		return s, err
	}
	return s, s.readLayers(m.Layers)
}

// read takes over the config.
func (s *Stored) read(c packageConfig) (err error) {
	if s.Name, err = ParseName(c.Name); err != nil {
		return err
	}
	if s.ID.Version, err = ParseVersion(c.Version); err != nil {
		return fmt.Errorf("version: %w", err)
	}
	s.ID.Target, s.Publisher, s.Entry = c.Entry.Target.Environment, c.Publisher, c.Entry.normal()
	if err := s.Entry.check(s.ID.Target); err != nil {
		return err
	}
	_, err = File{Entries: map[ID]Listed{s.ID: {Entry: s.Entry}}}.Encode()
	return err
}

// readLayers takes over the layers.
func (s *Stored) readLayers(layers []ocispec.Descriptor) error {
	s.Pages = map[string]ocispec.Descriptor{}
	for i, l := range layers {
		title := l.Annotations[ocispec.AnnotationTitle]
		switch {
		case l.Digest.Validate() != nil || l.Size < 0:
			return fmt.Errorf("layer %d has no valid digest or size", i)
		case l.MediaType == ArchiveType && s.Archive.Digest == "":
			s.Archive = l
		case l.MediaType == textType && title == readmeTitle && s.Readme == nil:
			s.Readme = &layers[i]
		case l.MediaType == textType && strings.HasPrefix(title, pagePrefix) && l.Digest.Algorithm() == digest.SHA256:
			s.Pages[l.Digest.Encoded()] = l
		}
	}
	if s.Archive.Digest == "" {
		return errors.New("the manifest has no archive")
	}
	return nil
}

// Page returns the descriptor of the page with a name, false if there is none.
func (s Stored) Page(name string) (ocispec.Descriptor, bool) {
	hash := findPage(s.Entry.Docs, name)
	d, ok := s.Pages[hash]
	return d, ok && hash != ""
}

// findPage returns the hash of a page, "" if there is none.
func findPage(docs []Doc, name string) string {
	for _, d := range docs {
		if d.Name == name && d.Hash != "" {
			return d.Hash
		}
		if hash := findPage(d.Items, name); hash != "" {
			return hash
		}
	}
	return ""
}
