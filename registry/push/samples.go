package push

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Samples pushes a few small images and artifacts, about 32 kB, for a first look at
// Portbook and for tests that need one of each kind:
//
//	samples/harbour       image index, amd64 and arm64; tags 1.0, 1.1 and
//	                      latest, which moves from 1.0 to 1.1; 1.1 has an SBOM
//	                      and a signature as referrers
//	samples/lighthouse    OCI image, arm64 only
//	samples/cargo         Docker schema 2 image
//	samples/charts/quay   Helm chart
//
// Pushing them again changes no digest, but moves harbour's latest to 1.0 and back
// to 1.1. The images cannot run: their programs are shell scripts, and they have no
// shell.
func Samples(ctx context.Context, c *Client) error {
	for _, push := range []func(context.Context, *Client) error{harbour, lighthouse, cargo, quay} {
		if err := push(ctx, c); err != nil {
			return fmt.Errorf("samples: %w", err)
		}
	}
	return nil
}

const source = "https://github.com/portbook/portbook"

// harbour pushes two versions, each as latest too, and two referrers of the second.
func harbour(ctx context.Context, c *Client) error {
	const repository = "samples/harbour"
	var index ocispec.Descriptor
	for minor, version := range []string{"1.0", "1.1"} {
		created := time.Date(2026, time.January+time.Month(minor), 15, 9, 30, 0, 0, time.UTC)
		for _, tag := range []string{version, "latest"} {
			var err error
			if index, err = harbourIndex(ctx, c, repository, tag, version, created); err != nil {
				return err
			}
		}
	}
	if err := sbom(ctx, c, repository, index); err != nil {
		return err
	}
	return signature(ctx, c, repository, index)
}

func harbourIndex(
	ctx context.Context, c *Client, repository, tag, version string, created time.Time,
) (ocispec.Descriptor, error) {
	words := about("Harbour", "A small harbour with two piers: the multi-platform sample", version, created)
	spec := ImageSpec{
		Created: created, Author: "Portbook", Labels: words, Annotations: words,
		User: "1000:1000", WorkingDir: "/srv",
		Env:          []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HARBOUR_PIERS=2"},
		Entrypoint:   []string{"/usr/local/bin/harbour"},
		Cmd:          []string{"--listen", ":8080"},
		ExposedPorts: []string{"8080/tcp"},
		History: []ocispec.History{
			{Created: &created, CreatedBy: "COPY harbour /usr/local/bin/harbour", Comment: "portbook sample"},
			{Created: &created, CreatedBy: `CMD ["--listen" ":8080"]`, EmptyLayer: true},
		},
	}
	var children []ocispec.Descriptor
	for _, spec.Architecture = range []string{"amd64", "arm64"} {
		spec.Files = map[string]string{
			"usr/local/bin/harbour": "#!/bin/sh\necho harbour " + version + " on " + spec.Architecture + "\n",
		}
		child, err := c.Image(ctx, repository, "", spec)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		children = append(children, child)
	}
	return c.Index(ctx, repository, tag, children, words)
}

// sbom pushes an SBOM that lists one package, the subject itself.
func sbom(ctx context.Context, c *Client, repository string, subject ocispec.Descriptor) error {
	const mediaType = "application/spdx+json"
	document, err := json.Marshal(map[string]any{
		"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": repository, "dataLicense": "CC0-1.0",
		"documentNamespace": source + "/sbom/" + subject.Digest.Encoded(),
		"packages": []any{map[string]any{
			"SPDXID": "SPDXRef-Package-harbour", "name": "harbour", "versionInfo": "1.1",
			"licenseDeclared": "Apache-2.0", "downloadLocation": source,
		}},
	})
	if err != nil {
		return fmt.Errorf("sbom: %w", err)
	}
	_, err = c.Artifact(ctx, repository, "", ArtifactSpec{
		ArtifactType: mediaType, Subject: &subject,
		Layers: []Blob{{MediaType: mediaType, Data: document,
			Annotations: map[string]string{ocispec.AnnotationTitle: "harbour.spdx.json"}}},
		Annotations: map[string]string{ocispec.AnnotationCreated: "2026-02-15T09:31:00Z"},
	})
	return err
}

// signature pushes a referrer in the form of cosign's signatures. The payload is
// cosign's; the signature is not valid for any key.
func signature(ctx context.Context, c *Client, repository string, subject ocispec.Descriptor) error {
	payload := fmt.Sprintf(`{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`,
		repository, subject.Digest)
	_, err := c.Artifact(ctx, repository, "", ArtifactSpec{
		ArtifactType: "application/vnd.dev.cosign.artifact.sig.v1+json", Subject: &subject,
		Layers: []Blob{{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Data: []byte(payload),
			Annotations: map[string]string{"dev.cosignproject.cosign/signature": "c2FtcGxl"}}},
	})
	return err
}

// lighthouse has labels but no annotations. Some labels are not in image-spec.
func lighthouse(ctx context.Context, c *Client) error {
	created := time.Date(2025, time.October, 1, 20, 0, 0, 0, time.UTC)
	labels := about("Lighthouse", "Shines at night: the single-platform sample, for arm64", "0.3.0", created)
	maps.Copy(labels, map[string]string{
		"maintainer":                 "keeper@lighthouse.example",
		"example.lighthouse.range":   "24 nautical miles",
		ocispec.AnnotationVendor:     "Lighthouse Authority",
		ocispec.AnnotationAuthors:    "The Keeper",
		ocispec.AnnotationLicenses:   "MIT",
		ocispec.AnnotationRefName:    "0.3.0",
		"io.artifacthub.package.tag": "navigation",
	})
	_, err := c.Image(ctx, "samples/lighthouse", "0.3.0", ImageSpec{
		Architecture: "arm64", Variant: "v8", Created: created, Labels: labels,
		Env:        []string{"LAMP=fresnel"},
		Entrypoint: []string{"/lamp"},
		History:    []ocispec.History{{Created: &created, CreatedBy: "COPY lamp /lamp"}},
		Files:      map[string]string{"lamp": "#!/bin/sh\necho flash\n"},
	})
	return err
}

// cargo is an image as docker push makes it: schema 2, with labels but no
// annotations.
func cargo(ctx context.Context, c *Client) error {
	created := time.Date(2025, time.June, 6, 6, 0, 0, 0, time.UTC)
	_, err := c.Image(ctx, "samples/cargo", "2.4", ImageSpec{
		Docker: true, Created: created,
		Labels: about("Cargo", "Crates and barrels: the sample in Docker's own format", "2.4", created),
		Cmd:    []string{"/bin/unload"}, ExposedPorts: []string{"9000/tcp", "9001/udp"},
		History: []ocispec.History{{Created: &created, CreatedBy: "/bin/sh -c #(nop) ADD file:crates in / "}},
		Files:   map[string]string{"bin/unload": "#!/bin/sh\necho unloaded\n", "crates": "tea\nsilk\n"},
	})
	return err
}

// quay is a chart as helm push makes it: the chart's metadata is the config, and its
// archive is the layer.
func quay(ctx context.Context, c *Client) error {
	const chart = "apiVersion: v2\nname: quay\nversion: 0.1.0\ndescription: A place to land\n"
	archive, err := tarball(map[string]string{"quay/Chart.yaml": chart})
	if err != nil {
		return err
	}
	config := []byte(`{"name":"quay","version":"0.1.0","description":"A place to land","apiVersion":"v2","appVersion":"1.1"}`)
	_, err = c.Artifact(ctx, "samples/charts/quay", "0.1.0", ArtifactSpec{
		Config: &Blob{MediaType: "application/vnd.cncf.helm.config.v1+json", Data: config},
		Layers: []Blob{{MediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip", Data: archive}},
		Annotations: map[string]string{
			ocispec.AnnotationTitle: "quay", ocispec.AnnotationVersion: "0.1.0",
			ocispec.AnnotationDescription: "A place to land",
		},
	})
	return err
}

// about returns annotations that image-spec defines (annotations.md).
func about(title, description, version string, created time.Time) map[string]string {
	return map[string]string{
		ocispec.AnnotationTitle:         title,
		ocispec.AnnotationDescription:   description,
		ocispec.AnnotationVersion:       version,
		ocispec.AnnotationCreated:       created.Format(time.RFC3339),
		ocispec.AnnotationLicenses:      "Apache-2.0",
		ocispec.AnnotationSource:        source,
		ocispec.AnnotationURL:           source,
		ocispec.AnnotationDocumentation: source + "/blob/main/README.md",
	}
}
