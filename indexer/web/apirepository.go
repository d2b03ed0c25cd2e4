package web

import (
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

// A timestamp is a time in an answer: RFC 3339, UTC, left out if it is unknown.
type timestamp struct{ time.Time }

func (t timestamp) MarshalJSON() ([]byte, error) { return t.UTC().MarshalJSON() }

type repositoriesAnswer struct {
	Repositories []string   `json:"repositories"`
	Count        *int       `json:"count,omitempty" doc:"of all pages; left out with at, of which only a page is known"`
	At           *timestamp `json:"at,omitempty" doc:"when it was so, if that was asked"`
}

func (s *server) apiRepositories(w http.ResponseWriter, r asked) error {
	at, err := r.at()
	if err != nil {
		return err
	}
	after, limit := r.values.Get("after"), r.number("limit", maxNames)
	return s.json(w, r, query.Query{}, func(b Book) (any, string, error) {
		names, a, err := s.names(r, b, at, after, limit+1)
		if err != nil {
			return nil, "", err
		}
		next := ""
		if len(names) > limit {
			names = names[:limit]
			next = r.page("after", names[limit-1])
		}
		a.Repositories = append([]string{}, names...)
		return a, next, nil
	})
}

func (s *server) names(r asked, b Book, at time.Time, after string, limit int) (names []string, a repositoriesAnswer, err error) {
	if !at.IsZero() {
		a.At = &timestamp{at}
		names, err = b.RepositoriesAt(r.Context(), at, after, limit)
		return names, a, err
	}
	count, err := b.CountRepositories(r.Context())
	if err != nil {
		return nil, a, err
	}
	a.Count = &count
	names, err = b.Names(r.Context(), after, limit)
	return names, a, err
}

type repositoryAnswer struct {
	Name        string    `json:"name"`
	Namespace   string    `json:"namespace" doc:"the part of the name before the first slash"`
	Title       string    `json:"title"`
	Description string    `json:"description"`
	Tags        int       `json:"tags" doc:"how many"`
	Manifests   int       `json:"manifests" doc:"how many, tagged or not"`
	UpdatedAt   timestamp `json:"updated_at" doc:"when anything under it last changed"`
	Leading     string    `json:"leading" doc:"the tag that speaks for it: latest, else the highest version, else what moved last, never one on which older tools keep referrers; empty if there is none"`
	TagsWith    tagsWith  `json:"tags_with" doc:"of how many tags the manifest has something attached to it; of an index also what every image in it has"`
}

// tagsWith counts tags by what they show.
type tagsWith struct {
	Of          int `json:"of" doc:"tags that are counted: all but those on which older tools keep referrers"`
	Signature   int `json:"signature" doc:"nobody verified it"`
	SBOM        int `json:"sbom"`
	Attestation int `json:"attestation"`
}

func (s *server) apiRepository(w http.ResponseWriter, r asked) error {
	name, err := r.repository()
	if err != nil {
		return err
	}
	return s.json(w, r, query.Query{}, func(b Book) (any, string, error) {
		found, err := b.Repository(r.Context(), name)
		return repositoryOf(found), "", err
	})
}

func repositoryOf(r indexer.Repository) repositoryAnswer {
	return repositoryAnswer{
		Name: r.Name, Namespace: r.Namespace(), Title: r.Title, Description: r.Description,
		Tags: r.Tags, Manifests: r.Manifests, UpdatedAt: timestamp{r.UpdatedAt}, Leading: r.Leading, TagsWith: tagsWith(r.TagsWith),
	}
}

type tagsAnswer struct {
	Repository string     `json:"repository"`
	Tags       []tag      `json:"tags"`
	At         *timestamp `json:"at,omitempty" doc:"when it was so, if that was asked"`
	Next       string     `json:"next,omitempty" doc:"address of the next page; left out on the last"`
}

type tag struct {
	Name      string    `json:"name"`
	Digest    string    `json:"digest" doc:"empty if the registry lists the tag but cannot show it"`
	MediaType string    `json:"media_type"`
	Kind      string    `json:"kind" doc:"image, index, artifact or unknown"`
	Platforms []string  `json:"platforms" doc:"of the image, or of the first 50 entries of the index: os/architecture[/variant]"`
	Size      int64     `json:"size" doc:"bytes of config and layers as stored; of an index the sum over its entries"`
	CreatedAt timestamp `json:"created_at,omitzero" doc:"as the image says"`
	MovedAt   timestamp `json:"moved_at,omitzero" doc:"when we saw the tag come to point where it points"`
	Has       []string  `json:"has" doc:"what is attached to the manifest that it shows or, if that is an index, to every image in it: signature (that nobody verified), sbom, attestation, provenance, referrer; empty with at"`
	Problem   string    `json:"problem,omitempty" doc:"why there is no more to show"`
}

func (s *server) apiTags(w http.ResponseWriter, r asked) error {
	name, err := r.repository()
	if err != nil {
		return err
	}
	at, err := r.at()
	if err != nil {
		return err
	}
	after, limit := r.values.Get("after"), r.number("limit", defaultList)
	return s.json(w, r, query.Query{}, func(b Book) (any, string, error) {
		list, err := tagsAt(r, b, name, at, after, limit+1)
		if err != nil {
			return nil, "", err
		}
		a := tagsAnswer{Repository: name}
		if !at.IsZero() {
			a.At = &timestamp{at}
		}
		if len(list) > limit {
			list = list[:limit]
			a.Next = r.page("after", list[limit-1].Name)
		}
		a.Tags = fitting(list, answerTag)
		return a, a.Next, nil
	})
}

// tagsAt gives the tags of now if at is zero, for which the repository must be
// there.
func tagsAt(r asked, b Book, name string, at time.Time, after string, limit int) ([]indexer.Tag, error) {
	if !at.IsZero() {
		return b.TagsAt(r.Context(), name, at, after, limit)
	}
	list, err := b.Tags(r.Context(), name, after, limit)
	if err == nil && len(list) == 0 {
		_, err = b.Repository(r.Context(), name)
	}
	return list, err
}

func answerTag(t indexer.Tag) tag {
	return tag{
		Name: t.Name, Digest: t.Digest.String(), MediaType: t.MediaType, Kind: string(t.Kind),
		Platforms: fitting(t.Platforms, indexer.Platform.String), Size: t.Size,
		CreatedAt: timestamp{t.CreatedAt}, MovedAt: timestamp{t.MovedAt}, Has: append([]string{}, t.Has...), Problem: t.Problem,
	}
}

type manifestAnswer struct {
	Repository   string            `json:"repository"`
	Digest       string            `json:"digest"`
	Tags         []string          `json:"tags" doc:"that show it"`
	MediaType    string            `json:"media_type"`
	ArtifactType string            `json:"artifact_type,omitempty"`
	Kind         string            `json:"kind" doc:"image, index, artifact or unknown"`
	Platform     string            `json:"platform,omitempty" doc:"of an image: os/architecture[/variant]"`
	Size         int64             `json:"size" doc:"bytes of the manifest itself"`
	ContentSize  int64             `json:"content_size" doc:"bytes of config and layers as stored; of an index 0"`
	CreatedAt    timestamp         `json:"created_at,omitzero" doc:"as its config or annotation says"`
	SeenAt       timestamp         `json:"seen_at" doc:"when we first read it"`
	Subject      string            `json:"subject,omitempty" doc:"the manifest that it says it belongs to"`
	Labels       map[string]string `json:"labels" doc:"of the config"`
	Annotations  map[string]string `json:"annotations" doc:"of the manifest"`
	Config       *descriptor       `json:"config,omitempty"`
	Layers       []descriptor      `json:"layers" doc:"in order; of an index none"`
	Entries      []entry           `json:"entries" doc:"of an index, in order"`
	Has          []string          `json:"has" doc:"what is attached to it or, if it is an index, to every image in it: signature (that nobody verified), sbom, attestation, provenance, referrer"`
	Problems     []string          `json:"problems" doc:"what could not be read or kept"`
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
	Present     bool              `json:"present" doc:"whether the book holds that manifest"`
}

func (s *server) apiManifest(w http.ResponseWriter, r asked) error {
	ref, err := r.reference()
	if err != nil {
		return err
	}
	return s.json(w, r, query.Query{}, func(b Book) (any, string, error) {
		m, err := b.Manifest(r.Context(), ref)
		if err != nil {
			return nil, "", err
		}
		tags, err := b.TagsOf(r.Context(), ref.Repository, m.Digest)
		return answerManifest(m, tags), "", err
	})
}

func answerManifest(m indexer.Manifest, tags []string) manifestAnswer {
	a := manifestAnswer{
		Repository: m.Repository, Digest: m.Digest.String(), Tags: append([]string{}, tags...), MediaType: m.MediaType,
		ArtifactType: m.ArtifactType, Kind: string(m.Kind), Platform: m.Platform.String(), Size: m.Size, ContentSize: m.ContentSize,
		CreatedAt: timestamp{m.CreatedAt}, SeenAt: timestamp{m.SeenAt}, Subject: m.Subject.String(),
		Labels: orEmpty(m.Labels), Annotations: orEmpty(m.Annotations),
		Layers: fitting(m.Layers, descriptorOf), Entries: fitting(m.Entries, entryOf), Problems: append([]string{}, m.Problems...),
		Has: append([]string{}, m.Has...),
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
	return entry{MediaType: e.MediaType, Digest: e.Digest.String(), Size: e.Size, Platform: e.Platform.String(), Annotations: e.Annotations, Present: e.Present}
}

// apiRaw answers with a manifest as the registry has it. Its media type is what
// somebody pushed, so only one that no browser runs is told.
func (s *server) apiRaw(w http.ResponseWriter, r asked) error {
	ref, err := r.reference()
	if err != nil {
		return err
	}
	var m indexer.Manifest
	as := form{contentType: "application/octet-stream", maxAge: s.MaxAgeIndex}
	as.headers = func(h http.Header) {
		h.Set("Docker-Content-Digest", m.Digest.String())
		asFile(h, fileOf(ref, ".manifest.json"))
		if ref.Digest != "" { // its bytes never change
			h.Set("Last-Modified", m.SeenAt.UTC().Format(http.TimeFormat))
		}
	}
	return s.answerAs(w, r.Request, &as, func(b Book, out io.Writer) (err error) {
		if m, err = b.Manifest(r.Context(), ref); err != nil {
			return err
		}
		if t, _, err := mime.ParseMediaType(m.MediaType); err == nil && strings.HasPrefix(t, "application/vnd.") {
			as.contentType = t
		}
		_, err = out.Write(m.Body)
		return err
	})
}

type layersAnswer struct {
	Repository string      `json:"repository"`
	Digest     string      `json:"digest" doc:"of the manifest"`
	Config     *descriptor `json:"config,omitempty"`
	Layers     []layer     `json:"layers" doc:"in order; of an index none"`
	Size       int64       `json:"size" doc:"bytes of config and layers as stored"`
}

type layer struct {
	MediaType   string            `json:"media_type"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	CreatedBy   string            `json:"created_by,omitempty" doc:"the step of the build that made it, if the config tells"`
}

func (s *server) apiLayers(w http.ResponseWriter, r asked) error {
	ref, err := r.reference()
	if err != nil {
		return err
	}
	return s.json(w, r, query.Query{}, func(b Book) (any, string, error) {
		m, err := b.Manifest(r.Context(), ref)
		return answerLayers(m), "", err
	})
}

func answerLayers(m indexer.Manifest) layersAnswer {
	made := map[*ocispec.Descriptor]string{}
	for _, h := range readConfig(m.ConfigBody, first(m.Layers)).History {
		if h.Layer != nil {
			made[h.Layer] = h.Command
		}
	}
	a := layersAnswer{Repository: m.Repository, Digest: m.Digest.String(), Size: m.ContentSize, Layers: make([]layer, len(m.Layers))}
	for i, l := range m.Layers {
		a.Layers[i] = layer{MediaType: l.MediaType, Digest: l.Digest.String(), Size: l.Size, Annotations: l.Annotations, CreatedBy: made[&m.Layers[i]]}
	}
	if m.Config != nil {
		d := descriptorOf(*m.Config)
		a.Config = &d
	}
	return a
}

type referrersAnswer struct {
	Repository string     `json:"repository"`
	Digest     string     `json:"digest" doc:"of the manifest that they belong to"`
	Referrers  []referrer `json:"referrers" doc:"in order of digest"`
	Next       string     `json:"next,omitempty" doc:"address of the next page; left out on the last"`
}

type referrer struct {
	MediaType    string            `json:"media_type"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifact_type,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Kind         string            `json:"kind,omitempty" doc:"signature, sbom or attestation, if it is one"`
	Tag          string            `json:"tag,omitempty" doc:"the tag that says so: of an older tool (sha256-….sig), or of the index that lists it (sha256-…); left out if the manifest itself does"`
	Beside       bool              `json:"beside,omitempty" doc:"true if an image index that lists both says so, as BuildKit does of attestations"`
}

func (s *server) apiReferrers(w http.ResponseWriter, r asked) error {
	ref, err := r.reference()
	if err != nil {
		return err
	}
	q := indexer.ReferrerQuery{Repository: ref.Repository, Limit: r.number("limit", maxReferrers)}
	if err := readAfterReferrer(r.values.Get("after"), &q); err != nil {
		return err
	}
	return s.json(w, r, query.Query{}, func(b Book) (any, string, error) {
		m, err := b.Manifest(r.Context(), ref)
		if err != nil {
			return nil, "", err
		}
		q.Subject = m.Digest
		page, err := b.Referrers(r.Context(), q)
		if err != nil {
			return nil, "", err
		}
		a := referrersAnswer{Repository: ref.Repository, Digest: m.Digest.String(), Referrers: fitting(page.Items, answerReferrer)}
		if page.More {
			a.Next = r.page("after", afterReferrer(page.Items[len(page.Items)-1]))
		}
		return a, a.Next, nil
	})
}

func answerReferrer(r indexer.Referrer) referrer {
	return referrer{MediaType: r.MediaType, Digest: r.Digest.String(), Size: r.Size, ArtifactType: r.ArtifactType,
		Annotations: r.Annotations, Kind: r.Kind(), Tag: r.Tag, Beside: r.Beside}
}

type historyAnswer struct {
	Moves []move `json:"moves" doc:"latest first"`
	Next  string `json:"next,omitempty" doc:"address of the next page, of older moves; left out on the last"`
}

type move struct {
	ID         int64     `json:"id" doc:"grows with time"`
	Repository string    `json:"repository"`
	Tag        string    `json:"tag"`
	From       string    `json:"from,omitempty" doc:"digest; left out if the tag was new"`
	To         string    `json:"to,omitempty" doc:"digest; left out if the tag was deleted"`
	SeenAt     timestamp `json:"seen_at" doc:"when we saw it, not when it was pushed"`
	SeenBy     string    `json:"seen_by" doc:"event or scan"`
}

// apiHistory answers for everything, for a repository, or for one of its tags.
// What is no more has a history too, so an unknown name is no error.
func (s *server) apiHistory(w http.ResponseWriter, r asked) (err error) {
	var repository string
	if r.PathValue("name") != "" {
		if repository, err = r.repository(); err != nil {
			return err
		}
	}
	name := r.PathValue("tag")
	if name != "" && !indexer.IsTag(name) {
		return indexer.InvalidTag(name)
	}
	at, err := r.at()
	if err != nil {
		return err
	}
	before, limit := int64(r.number("before", 0)), r.number("limit", defaultList)
	return s.json(w, r, query.Query{}, func(b Book) (any, string, error) {
		moves, next, err := movesUntil(r, b, repository, name, at, before, limit)
		if err != nil {
			return nil, "", err
		}
		var a historyAnswer
		if next > 0 {
			a.Next = r.page("before", strconv.FormatInt(next, 10))
		}
		a.Moves = fitting(moves, moveOf)
		return a, a.Next, nil
	})
}

// movesUntil is movesBefore of the moves that were seen until a time; of all if it
// is zero.
func movesUntil(r asked, b Book, repository, tag string, at time.Time, before int64, limit int) (moves []indexer.Move, next int64, err error) {
	if !at.IsZero() {
		end, err := b.HistoryAt(r.Context(), at)
		if err != nil {
			return nil, 0, err
		}
		if before == 0 || end > 0 && end < before {
			before = end
		}
	}
	return movesBefore(r.Request, b, repository, tag, before, limit)
}

func moveOf(m indexer.Move) move {
	return move{ID: m.ID, Repository: m.Repository, Tag: m.Tag, From: m.From.String(), To: m.To.String(), SeenAt: timestamp{m.SeenAt}, SeenBy: m.SeenBy}
}

type usesAnswer struct {
	Digest string `json:"digest"`
	Uses   []use  `json:"uses" doc:"in order of repository and digest"`
	Next   string `json:"next,omitempty" doc:"address of the next page; left out on the last"`
}

type use struct {
	Repository string   `json:"repository"`
	Digest     string   `json:"digest" doc:"of the manifest that uses it"`
	As         string   `json:"as" doc:"manifest, entry, config, layer or subject"`
	Tags       []string `json:"tags" doc:"on that manifest; at most 20"`
}

func (s *server) apiUses(w http.ResponseWriter, r asked) error {
	d, err := r.digest()
	if err != nil {
		return err
	}
	var after indexer.Reference
	if text := r.values.Get("after"); text != "" {
		if after, err = indexer.ParseReference(text); err != nil || after.Digest == "" || after.Tag != "" {
			return invalid("after", "is %.64q: write repository@digest", text)
		}
	}
	limit := r.number("limit", defaultList)
	return s.json(w, r, query.Query{}, func(b Book) (any, string, error) {
		uses, err := b.Uses(r.Context(), d, after.Repository, after.Digest, limit+1)
		if err != nil {
			return nil, "", err
		}
		a := usesAnswer{Digest: d.String()}
		if len(uses) > limit {
			uses = uses[:limit]
			last := uses[limit-1]
			a.Next = r.page("after", indexer.Reference{Repository: last.Repository, Digest: last.Digest}.String())
		}
		a.Uses = fitting(uses, func(u indexer.Use) use {
			return use{u.Repository, u.Digest.String(), u.As, append([]string{}, u.Tags...)}
		})
		return a, a.Next, nil
	})
}
