package push

import (
	"context"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Index pushes an image index. Its manifests must be in the repository already, or
// the registry refuses it. Reference is a tag, or "" to push by digest only.
func (c *Client) Index(
	ctx context.Context, repository, reference string, manifests []ocispec.Descriptor, annotations map[string]string,
) (ocispec.Descriptor, error) {
	return c.document(ctx, repository, reference, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageIndex,
		Manifests:   list(manifests),
		Annotations: annotations,
	})
}

// DockerList is like Index but pushes a Docker manifest list, the index of Docker
// schema 2 images.
func (c *Client) DockerList(
	ctx context.Context, repository, reference string, manifests []ocispec.Descriptor,
) (ocispec.Descriptor, error) {
	return c.document(ctx, repository, reference, DockerManifestList, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: DockerManifestList,
		Manifests: list(manifests),
	})
}

// list returns manifests, or an empty slice for nil: image-spec requires an array,
// and encoding/json writes nil as null.
func list(manifests []ocispec.Descriptor) []ocispec.Descriptor {
	if manifests == nil {
		return []ocispec.Descriptor{}
	}
	return manifests
}

// A Blob is the content and the descriptor of a config or layer.
type Blob struct {
	MediaType   string
	Data        []byte
	Annotations map[string]string // of the descriptor
}

// An ArtifactSpec describes an artifact to push: a manifest that is not an image,
// such as a signature, an SBOM or a chart (image-spec v1.1, manifest.md,
// "Guidelines for Artifact Usage").
type ArtifactSpec struct {
	ArtifactType string
	Config       *Blob               // nil means the empty config, {}
	Subject      *ocispec.Descriptor // may be nil, and need not exist in the registry
	Layers       []Blob              // none means one empty layer, as image-spec requires
	Annotations  map[string]string   // of the manifest
}

// Artifact builds and pushes an artifact. Reference is a tag, or "" to push by
// digest only, as referrers usually are.
func (c *Client) Artifact(
	ctx context.Context, repository, reference string, spec ArtifactSpec,
) (ocispec.Descriptor, error) {
	empty := Blob{MediaType: ocispec.MediaTypeEmptyJSON, Data: ocispec.DescriptorEmptyJSON.Data}
	if spec.Config == nil {
		spec.Config = &empty
	}
	if len(spec.Layers) == 0 {
		spec.Layers = []Blob{empty}
	}
	blobs, err := c.blobs(ctx, repository, append([]Blob{*spec.Config}, spec.Layers...))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return c.document(ctx, repository, reference, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: spec.ArtifactType,
		Config:       blobs[0],
		Layers:       blobs[1:],
		Subject:      bare(spec.Subject),
		Annotations:  spec.Annotations,
	})
}

func (c *Client) blobs(ctx context.Context, repository string, blobs []Blob) ([]ocispec.Descriptor, error) {
	descs := make([]ocispec.Descriptor, 0, len(blobs))
	for _, b := range blobs {
		desc, err := c.typedBlob(ctx, repository, b.MediaType, b.Data)
		if err != nil {
			return nil, err
		}
		desc.Annotations = b.Annotations
		descs = append(descs, desc)
	}
	return descs, nil
}

// bare returns d without its platform and annotations, which a subject does not
// have.
func bare(d *ocispec.Descriptor) *ocispec.Descriptor {
	if d == nil {
		return nil
	}
	return &ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}
