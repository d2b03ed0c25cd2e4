package api

import (
	"net/http"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

type layersAnswer struct {
	Repository string      `json:"repository"`
	Digest     string      `json:"digest" doc:"digest of the manifest"`
	Config     *descriptor `json:"config,omitempty"`
	Layers     []layer     `json:"layers" doc:"layers in order; empty for an index"`
	Size       int64       `json:"size" doc:"bytes of config and layers as stored"`
}

type layer struct {
	MediaType   string            `json:"media_type"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	CreatedBy   string            `json:"created_by,omitempty" doc:"the build step that made the layer, if the config names it"`
}

func (s *API) layers(w http.ResponseWriter, r asked) error {
	ref, err := r.reference()
	if err != nil {
		return err
	}
	return s.json(w, r, query.Query{}, func(b answer.Book) (any, string, error) {
		m, err := b.Manifest(r.Context(), ref)
		return answerLayers(m), "", err
	})
}

func answerLayers(m indexer.Manifest) layersAnswer {
	made := map[*ocispec.Descriptor]string{}
	for _, step := range indexer.ReadImageConfig(m.ConfigBody, answer.First(m.Layers)).Steps {
		if step.Layer != nil {
			made[step.Layer] = answer.Cut(step.Command, answer.MaxValue)
		}
	}
	a := layersAnswer{
		Repository: m.Repository, Digest: m.Digest.String(), Size: m.ContentSize, Layers: make([]layer, len(m.Layers)),
	}
	for i, l := range m.Layers {
		a.Layers[i] = layer{
			MediaType: l.MediaType, Digest: l.Digest.String(), Size: l.Size,
			Annotations: l.Annotations, CreatedBy: made[&m.Layers[i]],
		}
	}
	if m.Config != nil {
		d := descriptorOf(*m.Config)
		a.Config = &d
	}
	return a
}
