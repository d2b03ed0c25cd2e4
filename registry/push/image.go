package push

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An ImageSpec describes an image to push. The zero value is an image for
// linux/amd64 without layers, created at the Unix epoch.
type ImageSpec struct {
	OS           string // "" means linux
	Architecture string // "" means amd64
	Variant      string
	Created      time.Time // zero means the Unix epoch
	Author       string

	Labels      map[string]string // of the config
	Annotations map[string]string // of the manifest

	User         string
	WorkingDir   string
	Env          []string
	Entrypoint   []string
	Cmd          []string
	ExposedPorts []string // such as 8080/tcp
	History      []ocispec.History

	// Files maps paths to contents. They become the first layer, a gzip file with
	// stored blocks.
	Files map[string]string
	// Layers follow Files, and are pushed unchanged. Each is a tar or a gzipped tar.
	Layers [][]byte

	// RawConfig, if not nil, is pushed as the config, and the fields above that
	// belong to a config have no effect. It need not be valid.
	RawConfig []byte

	// Docker makes a Docker schema 2 image. That schema has no annotations, subject
	// or artifact type, but they are written if they are set.
	Docker bool

	Subject      *ocispec.Descriptor // nil for none
	ArtifactType string
}

// Image builds and pushes the layers, the config and the manifest of an image.
// Reference is a tag, or "" to push by digest only. The descriptor has a platform,
// as Index needs it.
func (c *Client) Image(ctx context.Context, repository, reference string, spec ImageSpec) (ocispec.Descriptor, error) {
	types := ociTypes
	if spec.Docker {
		types = dockerTypes
	}
	layers, diffIDs, err := c.layers(ctx, repository, types, spec)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	raw, err := spec.config(diffIDs)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	config, err := c.typedBlob(ctx, repository, types.config, raw)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc, err := c.document(ctx, repository, reference, types.manifest, ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    types.manifest,
		ArtifactType: spec.ArtifactType,
		Config:       config,
		Layers:       layers,
		Subject:      bare(spec.Subject),
		Annotations:  spec.Annotations,
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	platform := spec.platform()
	desc.Platform = &platform
	return desc, nil
}

// imageTypes are the media types of one of the two image formats.
type imageTypes struct{ manifest, config, layer, layerGzip string }

var (
	ociTypes = imageTypes{
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig,
		ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip,
	}
	dockerTypes = imageTypes{DockerManifest, DockerConfig, DockerLayer, DockerLayerGzip}
)

func (spec ImageSpec) platform() ocispec.Platform {
	p := ocispec.Platform{OS: spec.OS, Architecture: spec.Architecture, Variant: spec.Variant}
	if p.OS == "" {
		p.OS = "linux"
	}
	if p.Architecture == "" {
		p.Architecture = "amd64"
	}
	return p
}

// config returns the JSON of the config. DiffIDs are the digests of the uncompressed
// layers.
func (spec ImageSpec) config(diffIDs []digest.Digest) ([]byte, error) {
	if spec.RawConfig != nil {
		return spec.RawConfig, nil
	}
	created := spec.Created.UTC()
	if spec.Created.IsZero() {
		created = time.Unix(0, 0).UTC()
	}
	image := ocispec.Image{
		Created:  &created,
		Author:   spec.Author,
		Platform: spec.platform(),
		Config: ocispec.ImageConfig{
			User: spec.User, ExposedPorts: set(spec.ExposedPorts), Env: spec.Env,
			Entrypoint: spec.Entrypoint, Cmd: spec.Cmd, WorkingDir: spec.WorkingDir,
			Labels: spec.Labels,
		},
		RootFS:  ocispec.RootFS{Type: "layers", DiffIDs: diffIDs},
		History: spec.History,
	}
	return json.Marshal(image)
}

func set(keys []string) map[string]struct{} {
	m := make(map[string]struct{}, len(keys))
	for _, k := range keys {
		m[k] = struct{}{}
	}
	return m
}

// document pushes v as JSON. The same v gives the same bytes, because encoding/json
// sorts the keys of maps.
func (c *Client) document(
	ctx context.Context, repository, reference, mediaType string, v any,
) (ocispec.Descriptor, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("manifest for %q %q: %w", repository, reference, err)
	}
	return c.Manifest(ctx, repository, reference, mediaType, body)
}
