package api

import (
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

type manifestAnswer struct {
	Repository   string                 `json:"repository"`
	Digest       string                 `json:"digest"`
	Tags         []string               `json:"tags" doc:"tags that show the manifest"`
	MediaType    string                 `json:"media_type"`
	ArtifactType string                 `json:"artifact_type,omitempty"`
	Kind         string                 `json:"kind" doc:"image, index, artifact or unknown"`
	Platform     string                 `json:"platform,omitempty" doc:"platform of an image: os/architecture[/variant]"`
	Size         int64                  `json:"size" doc:"bytes of the manifest itself"`
	ContentSize  int64                  `json:"content_size" doc:"bytes of config and layers as stored; 0 for an index"`
	CreatedAt    answer.Timestamp       `json:"created_at,omitzero" doc:"when it was created, according to its config or annotation"`
	SeenAt       answer.Timestamp       `json:"seen_at" doc:"when the indexer first read it"`
	Subject      string                 `json:"subject,omitempty" doc:"digest of the manifest that it names as its subject"`
	Labels       map[string]string      `json:"labels" doc:"labels of the config"`
	Annotations  map[string]string      `json:"annotations" doc:"annotations of the manifest"`
	Config       *descriptor            `json:"config,omitempty"`
	Layers       []descriptor           `json:"layers" doc:"layers in order; empty for an index"`
	Entries      []entry                `json:"entries" doc:"entries of an index, in order"`
	Has          []indexer.ReferrerKind `json:"has" doc:"what is attached to the manifest: signature (not verified), sbom, attestation, provenance, referrer; an index also has what every image in it has; as of now, also with the parameter at"`
	At           *answer.Timestamp      `json:"at,omitempty" doc:"the requested time, if any: the digest and the tags are those of then"`
	Pulls        int64                  `json:"pulls" doc:"pulls by any tag or its digest that were counted"`
	PulledAt     answer.Timestamp       `json:"pulled_at,omitzero" doc:"the last pull; absent if none was counted"`
	Problems     []string               `json:"problems" doc:"what could not be read or stored"`
	Yanked       bool                   `json:"yanked,omitempty" doc:"whether searches leave it out, by its digest, by the tag in the address or as all of the repository: see the notices of the repository"`
}

type descriptor struct {
	MediaType   string            `json:"media_type"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type entry struct {
	MediaType   string            `json:"media_type"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    string            `json:"platform,omitempty" doc:"os/architecture[/variant]"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Present     bool              `json:"present" doc:"whether the book has that manifest"`
}

func (s *API) manifest(w http.ResponseWriter, r asked) error {
	ref, err := r.reference()
	if err != nil {
		return err
	}
	at, err := r.at()
	if err != nil {
		return err
	}
	return s.json(w, r, query.Query{}, func(b answer.Book) (any, string, error) {
		if !at.IsZero() {
			m, tags, err := answer.ManifestAt(r.Context(), b, ref, at)
			a := answerManifest(m, tags)
			a.At = &answer.Timestamp{Time: at}
			return a, "", err
		}
		m, err := b.Manifest(r.Context(), ref)
		if err != nil {
			return nil, "", err
		}
		tags, err := b.TagsOf(r.Context(), ref.Repository, m.Digest)
		if err != nil {
			return nil, "", err
		}
		pulls, err := lastPulls(r, b, ref.Repository, nil, []digest.Digest{m.Digest})
		if err != nil {
			return nil, "", err
		}
		a, last := answerManifest(m, tags), pulls.Digests[m.Digest]
		a.Pulls, a.PulledAt = last.Pulls, answer.Timestamp{Time: last.At}
		n, err := b.Notices(r.Context(), ref.Repository)
		a.Yanked = n.Of(ref.Tag, m.Digest) != nil
		return a, "", err
	})
}

func answerManifest(m indexer.Manifest, tags []string) manifestAnswer {
	a := manifestAnswer{
		Repository: m.Repository, Digest: m.Digest.String(), Tags: append([]string{}, tags...),
		MediaType: m.MediaType, ArtifactType: m.ArtifactType, Kind: string(m.Kind),
		Platform: m.Platform.String(), Size: m.Size, ContentSize: m.ContentSize,
		CreatedAt: answer.Timestamp{Time: m.CreatedAt}, SeenAt: answer.Timestamp{Time: m.SeenAt},
		Subject: m.Subject.String(), Labels: orEmpty(m.Labels), Annotations: orEmpty(m.Annotations),
		Layers: answer.Map(m.Layers, descriptorOf), Entries: answer.Map(m.Entries, entryOf),
		Problems: append([]string{}, m.Problems...), Has: append([]indexer.ReferrerKind{}, m.Has...),
	}
	if m.Config != nil {
		d := descriptorOf(*m.Config)
		a.Config = &d
	}
	return a
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func descriptorOf(d ocispec.Descriptor) descriptor {
	return descriptor{MediaType: d.MediaType, Digest: d.Digest.String(), Size: d.Size, Annotations: d.Annotations}
}

func entryOf(e indexer.Entry) entry {
	return entry{
		MediaType: e.MediaType, Digest: e.Digest.String(), Size: e.Size,
		Platform: e.Platform.String(), Annotations: e.Annotations, Present: e.Present,
	}
}

// raw returns a manifest exactly as the registry has it. Its media type was chosen
// by whoever pushed it, so it is sent only if no browser runs it.
func (s *API) raw(w http.ResponseWriter, r asked) error {
	ref, err := r.reference()
	if err != nil {
		return err
	}
	var m indexer.Manifest
	as := answer.Form{ContentType: "application/octet-stream", MaxAge: s.config.MaxAge}
	as.Headers = func(h http.Header) {
		h.Set("Docker-Content-Digest", m.Digest.String())
		answer.AsFile(h, answer.FileOf(ref, ".manifest.json"))
		if ref.Digest != "" { // its bytes never change
			h.Set("Last-Modified", m.SeenAt.UTC().Format(http.TimeFormat))
		}
	}
	return s.answerer.AnswerAs(w, r.Request, &as, func(b answer.Book, out io.Writer) (err error) {
		if m, err = b.Manifest(r.Context(), ref); err != nil {
			return err
		}
		if t, _, err := mime.ParseMediaType(m.MediaType); err == nil && strings.HasPrefix(t, "application/vnd.") {
			as.ContentType = t
		}
		_, err = out.Write(m.Body)
		return err
	})
}
