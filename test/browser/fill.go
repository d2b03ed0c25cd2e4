package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/registry/push"
)

// clients are the programs that push, in addition to our own client.
var clients = []string{"skopeo", "buildah"}

// push fills the site with typical and with hostile content, and sets site.known.
func (s *site) push(ctx context.Context) error {
	c := push.New(s.url)
	for _, step := range []func(context.Context, *push.Client) error{
		push.Samples, s.teams, s.nightly, s.gateway, s.broken, s.hostile, s.built, s.copied,
	} {
		if err := step(ctx, c); err != nil {
			return err
		}
	}
	if err := s.settled(ctx, copiedTo); err != nil {
		return err
	}
	// After a scan, the indexer updates what it otherwise updates from time to time, and
	// the status shows a scan of a registry with content.
	_, err := s.portbook(ctx, "", "scan")
	s.known["then"] = time.Now().UTC().Format(time.RFC3339)
	return err
}

// epoch is the time of the oldest image.
var epoch = time.Date(2024, 3, 1, 8, 0, 0, 0, time.UTC)

// words returns labels of an image that image-spec defines.
func words(title, description, version string, created time.Time) map[string]string {
	return map[string]string{
		ocispec.AnnotationTitle: title, ocispec.AnnotationDescription: description, ocispec.AnnotationVersion: version,
		ocispec.AnnotationCreated: created.Format(time.RFC3339), ocispec.AnnotationLicenses: "Apache-2.0",
		ocispec.AnnotationSource: "https://git.example.com/" + strings.ReplaceAll(strings.ToLower(title), " ", "-"),
	}
}

// teams pushes 90 repositories of five teams, which are more than one page of a list.
func (s *site) teams(ctx context.Context, c *push.Client) error {
	var group sync.WaitGroup
	teams := []string{"payments", "shop", "data", "mobile", "research"}
	errs := make([]error, len(teams))
	for i, team := range teams {
		group.Go(func() { errs[i] = team18(ctx, c, team) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// team18 pushes a team's 18 repositories.
func team18(ctx context.Context, c *push.Client, team string) error {
	for i, subject := range []string{"invoice", "order", "account", "ledger", "session", "search"} {
		for j, kind := range []string{"api", "worker", "ui"} {
			created := epoch.Add(time.Duration(i*100+j*7) * 24 * time.Hour)
			spec := push.ImageSpec{
				Created: created, User: "65532", Entrypoint: []string{"/app"},
				Labels: words(subject+" "+kind, fmt.Sprintf("The %s %s of the %s team, with its migrations", subject, kind, team), "1.0.0", created),
				Files:  map[string]string{"app": strings.Repeat(team, 200*(i+1)*(j+1))},
			}
			if (i+j)%4 == 0 {
				spec.Architecture = "arm64"
			}
			if _, err := c.Image(ctx, team+"/"+subject+"-"+kind, fmt.Sprintf("1.%d.0", j), spec); err != nil {
				return err
			}
		}
	}
	return nil
}

// nightly pushes one repository with 130 tags, which are three pages of a list.
func (s *site) nightly(ctx context.Context, c *push.Client) error {
	const repository = "archive/nightly"
	for build := range 13 {
		created := epoch.Add(time.Duration(build) * 24 * time.Hour)
		version := fmt.Sprintf("2.%d", build)
		spec := push.ImageSpec{
			Created: created, Labels: words("Nightly builds", "Nightly builds of everything, kept for a quarter", version, created),
			Files: map[string]string{"build.txt": version},
		}
		desc, err := c.Image(ctx, repository, version, spec)
		if err != nil {
			return err
		}
		_, body, err := c.Fetch(ctx, repository, desc.Digest.String())
		if err != nil {
			return err
		}
		for retry := range 9 { // the same image with other tags
			if _, err := c.Manifest(ctx, repository, fmt.Sprintf("%s.%d", version, retry+1), desc.MediaType, body); err != nil {
				return err
			}
		}
	}
	return nil
}

// gateway pushes an index with five platforms and an attestation, as BuildKit does, an
// SBOM as its referrer, and a signature with cosign's tag.
func (s *site) gateway(ctx context.Context, c *push.Client) error {
	const repository, tag = "platform/gateway", "2.4.1"
	created := epoch.AddDate(1, 2, 3)
	about := words("Gateway", "The front door of the platform: routes, limits and logs every request", tag, created)
	var children []ocispec.Descriptor
	for _, p := range []ocispec.Platform{
		{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"},
		{OS: "linux", Architecture: "arm", Variant: "v7"},
		{OS: "linux", Architecture: "s390x"}, {OS: "windows", Architecture: "amd64"},
	} {
		child, err := c.Image(ctx, repository, "", gatewayImage(p, about, created))
		if err != nil {
			return err
		}
		children = append(children, child)
	}
	s.known["image"] = children[0].Digest.String()
	attestation, err := c.Image(ctx, repository, "", push.ImageSpec{
		OS: "unknown", Architecture: "unknown", Files: map[string]string{"provenance.json": "{}"},
	})
	if err != nil {
		return err
	}
	attestation.Annotations = map[string]string{
		"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": s.known["image"],
	}
	index, err := c.Index(ctx, repository, tag, append(children, attestation), about)
	if err != nil {
		return err
	}
	s.known["index"] = index.Digest.String()
	sbom, err := c.Artifact(ctx, repository, "", push.ArtifactSpec{
		ArtifactType: "application/spdx+json", Subject: &index,
		Layers: []push.Blob{{MediaType: "application/spdx+json", Data: []byte(`{"spdxVersion":"SPDX-2.3"}`),
			Annotations: map[string]string{ocispec.AnnotationTitle: "gateway.spdx.json"}}},
	})
	if err != nil {
		return err
	}
	s.known["sbom"] = sbom.Digest.String()
	return s.sign(ctx, c, repository, index.Digest)
}

func gatewayImage(p ocispec.Platform, about map[string]string, created time.Time) push.ImageSpec {
	return push.ImageSpec{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, Created: created, Labels: about,
		User: "65532:65532", WorkingDir: "/var/lib/gateway",
		Env:          []string{"PATH=/usr/local/bin:/usr/bin:/bin", "GATEWAY_LIMIT=1000", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		Entrypoint:   []string{"/usr/bin/gateway"},
		Cmd:          []string{"--listen", ":8443", "--routes", "/etc/gateway/routes.yaml"},
		ExposedPorts: []string{"8443/tcp", "9090/tcp"},
		History: []ocispec.History{
			{Created: &created, CreatedBy: "COPY gateway /usr/bin/gateway # buildkit", Comment: "buildkit.dockerfile.v0"},
			{Created: &created, CreatedBy: "COPY base /usr/share/base # buildkit"},
			{Created: &created, CreatedBy: `CMD ["--listen" ":8443"]`, EmptyLayer: true},
		},
		Files:  map[string]string{"usr/bin/gateway": strings.Repeat("gateway "+p.Architecture, 9000)},
		Layers: [][]byte{archive("usr/share/base", strings.Repeat("what all of them share", 40_000))},
	}
}

// archive returns an uncompressed layer with one file.
func archive(name, content string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}) // writing to a Buffer cannot fail
	_, _ = w.Write([]byte(content))
	_ = w.Close()
	return b.Bytes()
}

// sign pushes a signature with the tag that cosign derives from the digest.
func (s *site) sign(ctx context.Context, c *push.Client, repository string, of digest.Digest) error {
	s.known["signature"] = strings.ReplaceAll(of.String(), ":", "-") + ".sig"
	payload := fmt.Sprintf(`{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, repository, of)
	const mediaType = "application/vnd.dev.cosign.simplesigning.v1+json"
	_, err := c.Artifact(ctx, repository, s.known["signature"], push.ArtifactSpec{
		Config: &push.Blob{MediaType: ocispec.MediaTypeImageConfig, Data: []byte(`{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":[]}}`)},
		Layers: []push.Blob{{MediaType: mediaType, Data: []byte(payload), Annotations: map[string]string{"dev.cosignproject.cosign/signature": "MEUCIQ=="}}},
	})
	return err
}

// broken pushes an image whose config is not valid JSON.
func (s *site) broken(ctx context.Context, c *push.Client) error {
	_, err := c.Image(ctx, "broken/config", "1", push.ImageSpec{RawConfig: []byte("{this is no JSON")})
	return err
}

// trap is a script that runs if a page does not escape text of an image; see
// checkHostile.
const trap = `hostile=1`

// hostile pushes an image with markup and script in every text, and with the longest
// names: a tag of 128 characters, and a repository of 255 including its host, for which
// 40 are reserved (distribution/reference, NameTotalLengthMax).
func (s *site) hostile(ctx context.Context, c *push.Client) error {
	repository := "hostile/" + strings.Repeat("unbreakable", 18)
	tag := strings.Repeat("W", 128)
	s.known["hostile"], s.known["hostile-tag"] = repository, tag
	markup := `"'></title></pre></td><script>` + trap + `</script><img src=x onerror="` + trap + `"><svg onload=` + trap + `>`
	address := "javascript:" + trap + "//"
	bidi := "\u202egnp.exe\u202c \u2066isolated \x1b[31mred \u200b"
	endless := strings.Repeat("endless", 700)
	labels := map[string]string{
		ocispec.AnnotationTitle: bidi + markup, ocispec.AnnotationDescription: markup + " [link](" + address + ") " + bidi + endless,
		ocispec.AnnotationURL: address, ocispec.AnnotationSource: "data:text/html,<script>" + trap + "</script>",
		ocispec.AnnotationDocumentation: "https://user:password@example.com/\"onclick=\"" + trap, ocispec.AnnotationLicenses: markup,
		ocispec.AnnotationVersion: markup, ocispec.AnnotationVendor: endless, ocispec.AnnotationAuthors: bidi,
		markup: markup, endless: "x", "{{.}}": "${7*7}{{7*7}}",
	}
	_, err := c.Image(ctx, repository, tag, push.ImageSpec{
		Architecture: `"><script>` + trap + `</script>`, Author: markup, Labels: labels, Annotations: labels,
		User: markup, WorkingDir: endless, Env: []string{markup, "LONG=" + endless, "=", "JS=" + address},
		Entrypoint: []string{markup, endless}, Cmd: []string{address}, ExposedPorts: []string{markup},
		History: []ocispec.History{{CreatedBy: markup + endless, Comment: bidi}},
		Files:   map[string]string{"x": "x"},
	})
	return err
}

// built builds and pushes an image with buildah.
func (s *site) built(ctx context.Context, _ *push.Client) error {
	dir, err := os.MkdirTemp("", "portbook-browser-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for name, content := range map[string]string{
		"Containerfile": `FROM scratch
COPY report /usr/local/bin/report
COPY data /usr/share/report/data
ENV MAINTAINER_TEAM=tools LANG=C.UTF-8
LABEL org.opencontainers.image.title="Tools" org.opencontainers.image.description="Small tools for reports, built from a Containerfile" maintainer="tools@example.com"
EXPOSE 8080
VOLUME /var/lib/report
USER 1000
ENTRYPOINT ["/usr/local/bin/report"]
`,
		"report": "#!/bin/sh\necho report\n",
		"data":   strings.Repeat("1,2,3\n", 5000),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			return err
		}
	}
	image := strings.TrimPrefix(s.url, "http://") + "/debian/tools:1.0"
	// vfs and chroot work in a container.
	storage := []string{"--storage-driver=vfs", "--root=" + dir + "/root", "--runroot=" + dir + "/run"}
	build := []string{"build", "--quiet", "--layers", "--isolation=chroot", "--format=oci", "--tag=" + image, dir}
	if err := run(ctx, "buildah", append(storage, build...)...); err != nil {
		return err
	}
	return run(ctx, "buildah", append(storage, "push", "--quiet", "--tls-verify=false", image)...)
}

// copiedTo is the repository of the last push.
const copiedTo = "mirror/harbour"

// copied copies an index with all its images, moves a tag and deletes another with
// skopeo, so that there is a history.
func (s *site) copied(ctx context.Context, _ *push.Client) error {
	host := "docker://" + strings.TrimPrefix(s.url, "http://") + "/"
	for _, args := range [][]string{
		{"copy", "--all", host + "samples/harbour:1.0", host + copiedTo + ":stable"},
		{"copy", "--all", host + "samples/harbour:1.1", host + copiedTo + ":stable"},
		{"copy", host + "samples/lighthouse:0.3.0", host + "mirror/lighthouse:gone"},
		{"delete", host + "mirror/lighthouse:gone"}, // deletes every tag of its digest
		{"copy", host + "samples/lighthouse:0.3.0", host + "mirror/lighthouse:0.3.0"},
		{"copy", host + "samples/harbour:1.1", host + copiedTo + ":1.1"},
	} {
		flags := []string{args[0], "--src-tls-verify=false", "--dest-tls-verify=false", "--quiet"}
		if args[0] == "delete" {
			flags = []string{args[0], "--tls-verify=false"}
		}
		if err := run(ctx, "skopeo", append(flags, args[1:]...)...); err != nil {
			return err
		}
	}
	return nil
}

// run runs a program. The error has its output.
func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
