package search_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
	"github.com/portbook/portbook/indexer/postgres/search"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/schema/schematest"
)

// referring returns an artifact of a type, with a subject.
func referring(subject indexer.Manifest, artifactType string) indexer.Manifest {
	m := made(subject.Repository, "", 10, 1, "2026-11-20", "type", artifactType, "of", subject.Digest.String())
	m.Kind, m.ArtifactType, m.Subject = indexer.KindArtifact, artifactType, subject.Digest
	return m
}

// attesting returns an attestation in BuildKit's format, whose layers have statements
// of the given types, and its entry in the index of the image.
func attesting(image indexer.Manifest, types ...string) (indexer.Manifest, indexer.Entry) {
	m := made(image.Repository, "unknown/unknown", 10, 1, "2026-11-20")
	m.Body = fmt.Appendf(nil, `{"layers":%q,"of":%q}`, types, image.Digest)
	m.Digest, m.Size = digest.FromBytes(m.Body), int64(len(m.Body))
	return m, indexer.Entry{Digest: m.Digest, MediaType: ocispec.MediaTypeImageManifest, Platform: m.Platform,
		Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.Digest.String()}}
}

// with returns an index with more entries.
func with(index indexer.Manifest, entries ...indexer.Entry) indexer.Manifest {
	index.Entries = append(slices.Clone(index.Entries), entries...)
	index.Body = fmt.Appendf(nil, "%v", index.Entries)
	index.Digest, index.Size = digest.FromBytes(index.Body), int64(len(index.Body))
	return index
}

// tagsWith checks the number of tags of a repository that have referrers.
func (s shelf) tagsWith(repository string, want indexer.TagsWith) {
	s.T.Helper()
	err := s.View(s.T.Context(), indexer.Everyone, func(v *postgres.View) error {
		r, err := v.Repository(s.T.Context(), repository)
		if diff := cmp.Diff(want, r.TagsWith); diff != "" {
			s.T.Errorf("tags of %s (-want +got)\n%s", repository, diff)
		}
		return err
	})
	if err != nil {
		s.T.Error(err)
	}
}

// A signature counts for the image that is its subject, and for no other image of the
// repository: otherwise the signature of an old image would vouch for a new one.
func TestHasIsOfAnImage(t *testing.T) {
	t.Parallel()
	const alpine = "library/alpine"
	s := newShelf(t)
	old, now := made(alpine, "linux/amd64", 1, 1, "2020-01-01"), made(alpine, "linux/arm64", 2, 1, "2026-01-01")
	s.Find(alpine, "3.10", old)
	s.Find(alpine, "3.11", now)
	s.Find(alpine, "latest", now)
	signature := referring(old, "application/vnd.dev.cosign.simplesigning.v1+json")
	s.Find(alpine, signature.Digest.String(), signature)
	s.Finds("has:signature", alpine)
	s.Finds("has:referrer", alpine)
	s.Finds("tag:3.10 has:signature", alpine)
	s.Finds("has:signature arch:amd64", alpine)
	s.Finds("tag:3.11 has:signature")
	s.Finds("tag:latest has:signature")
	s.Finds("has:signature arch:arm64")
	s.Finds("has:sbom OR has:attestation")
	s.Finds("-has:signature")
	s.Finds("-has:sbom", alpine)
	s.tagsWith(alpine, indexer.TagsWith{Of: 3, Signature: 1})

	sbom := referring(now, "application/spdx+json")
	s.Find(alpine, sbom.Digest.String(), sbom)
	s.Finds("tag:latest has:sbom", alpine)
	s.Finds("has:sbom has:signature") // true of two images, not of one
	s.tagsWith(alpine, indexer.TagsWith{Of: 3, Signature: 1, SBOM: 2})

	s.Find(alpine, signature.Digest.String()) // deleted
	s.Finds("has:signature")
	s.tagsWith(alpine, indexer.TagsWith{Of: 3, SBOM: 2})
	s.Find(alpine, "3.11")
	s.tagsWith(alpine, indexer.TagsWith{Of: 2, SBOM: 1})
}

// The has: values of a tag are those of its own image.
func TestTagsTellWhatTheyHave(t *testing.T) {
	t.Parallel()
	const alpine = "library/alpine"
	s := newShelf(t)
	old, now := made(alpine, "linux/amd64", 1, 1, "2020-01-01"), made(alpine, "linux/arm64", 2, 1, "2026-01-01")
	s.Find(alpine, "3.10", old)
	s.Find(alpine, "latest", now)
	signature := referring(old, "application/vnd.dev.cosign.simplesigning.v1+json")
	s.Find(alpine, signature.Digest.String(), signature)
	got := map[string][]indexer.ReferrerKind{}
	err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) error {
		tags, err := v.Tags(t.Context(), alpine, "", 10)
		for _, tag := range tags {
			slices.Sort(tag.Has)
			got[tag.Name] = tag.Has
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]indexer.ReferrerKind{"3.10": {"referrer", "signature"}, "latest": {}}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A referrer and its subject may be stored in any order, whether a subject, a tag or
// an index connects them, and the has: values follow when they are deleted.
func TestAttachedFollows(t *testing.T) {
	t.Parallel()
	const name = "team/app"
	subject := made(name, "linux/amd64", 1, 1, "2026-01-01")
	tag := "sha256-" + subject.Digest.Encoded()
	signature := made(name, "", 5, 1, "2026-01-02", "by", "cosign")
	signature.Kind, signature.ArtifactType = indexer.KindArtifact, "application/vnd.oci.empty.v1+json"
	named := referring(subject, "application/vnd.cyclonedx+json")
	listed := made(name, "", 6, 1, "2026-01-02", "by", "a list")
	listed.Kind, listed.ArtifactType = indexer.KindArtifact, "application/vnd.in-toto+json"
	fallback := listing(name, listed)
	attestation, entry := attesting(subject, "https://slsa.dev/provenance/v1")
	index := with(listing(name, subject), entry)
	for _, test := range []struct {
		what         string
		before, here func(shelf) // these store both, and run in both orders
		gone         func(shelf)
		has          []string
	}{
		{"by its subject", func(s shelf) { s.Find(name, "v1", subject) }, func(s shelf) { s.Find(name, named.Digest.String(), named) },
			func(s shelf) { s.Find(name, named.Digest.String()) }, []string{"referrer", "sbom"}},
		{"by cosign's tag", func(s shelf) { s.Find(name, "v1", subject) }, func(s shelf) { s.Find(name, tag+".sig", signature) },
			func(s shelf) { s.Find(name, tag+".sig") }, []string{"referrer", "signature"}},
		{"by the referrers tag", func(s shelf) { s.Find(name, "v1", subject); s.Find(name, listed.Digest.String(), listed) }, func(s shelf) { s.Find(name, tag, fallback) },
			func(s shelf) { s.Find(name, tag) }, []string{"attestation", "referrer"}},
		{"by the referrers tag, first", func(s shelf) { s.Find(name, "v1", subject); s.Find(name, tag, fallback) }, func(s shelf) { s.Find(name, listed.Digest.String(), listed) },
			func(s shelf) { s.Find(name, listed.Digest.String()) }, []string{"attestation", "referrer"}},
		{"beside its image", func(s shelf) { s.Find(name, "v1", index, subject) }, func(s shelf) { s.Find(name, attestation.Digest.String(), attestation) },
			func(s shelf) { s.Find(name, attestation.Digest.String()) }, []string{"attestation", "provenance", "referrer"}},
		{"beside its image, all at once", func(s shelf) {}, func(s shelf) { s.Find(name, "v1", index, subject, attestation) },
			func(s shelf) { s.Find(name, attestation.Digest.String()) }, []string{"attestation", "provenance", "referrer"}},
		{"in an index without a tag", func(s shelf) { s.Find(name, "v1", subject); s.Find(name, attestation.Digest.String(), attestation) }, func(s shelf) { s.Find(name, index.Digest.String(), index) },
			func(s shelf) { s.Find(name, index.Digest.String()) }, []string{"attestation", "provenance", "referrer"}},
	} {
		for _, order := range []string{"subject first", "subject last"} {
			t.Run(test.what+", "+order, func(t *testing.T) {
				t.Parallel()
				s := newShelf(t)
				steps := []func(shelf){test.before, test.here}
				if order == "subject last" {
					slices.Reverse(steps)
				}
				for _, step := range steps {
					step(s)
				}
				for _, kind := range []string{"attestation", "provenance", "referrer", "sbom", "signature"} {
					var want []string
					if slices.Contains(test.has, kind) {
						want = []string{name}
					}
					s.Finds("tag:v1 arch:amd64 has:"+kind, want...)
				}
				test.gone(s)
				s.Finds("tag:v1 arch:amd64", name)
				s.Finds("tag:v1 has:referrer")
			})
		}
	}
}

// An image index has the referrers of its own and those that every image in it has, so
// that the has: values hold for each of its platforms.
func TestIndexHasWhatEveryImageHas(t *testing.T) {
	t.Parallel()
	const name = "team/app"
	s := newShelf(t)
	amd, arm := made(name, "linux/amd64", 1, 1, "2026-01-01"), made(name, "linux/arm64", 2, 1, "2026-01-01")
	ofAMD, amdEntry := attesting(amd, "https://spdx.dev/Document")
	ofARM, armEntry := attesting(arm, "https://cyclonedx.org/bom")
	index := with(listing(name, amd, arm), amdEntry, armEntry)
	s.Find(name, "v1", index, amd, arm, ofAMD)
	s.Finds("tag:v1 has:sbom", name)
	s.Finds("type:index has:sbom")
	s.tagsWith(name, indexer.TagsWith{Of: 1})
	s.Find(name, ofARM.Digest.String(), ofARM)
	s.Finds("type:index has:sbom has:attestation", name)
	s.tagsWith(name, indexer.TagsWith{Of: 1, SBOM: 1, Attestation: 1})
	s.Find(name, ofAMD.Digest.String()) // deleted
	s.tagsWith(name, indexer.TagsWith{Of: 1})

	signature := referring(index, "application/vnd.cncf.notary.signature")
	s.Find(name, signature.Digest.String(), signature)
	s.tagsWith(name, indexer.TagsWith{Of: 1, Signature: 1})
	s.Finds("has:signature type:index", name)
	s.Finds("has:signature arch:arm64") // its subject is the index
	s.Find(name, "sha256-"+index.Digest.Encoded()+".sig", referring(signature, "application/vnd.cncf.notary.signature"))
	s.tagsWith(name, indexer.TagsWith{Of: 1, Signature: 1}) // a tag of a referrer is not counted
}

// A referrer is looked up in its own repository. Looked up by its number alone, each
// referrer would cost a pass over all manifests of the book, and those of other
// repositories with the same number would count too.
func TestReferrersOfOtherRepositories(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	image := made("team/app", "linux/amd64", 1, 1, "2026-01-01")
	s.Find("team/app", "v1", image)
	signature := referring(image, "application/vnd.cncf.notary.signature")
	s.Find("team/app", signature.Digest.String(), signature)
	sbom := made("team/other", "", 10, 1, "2026-01-01")
	sbom.Kind, sbom.ArtifactType = indexer.KindArtifact, "application/spdx+json"
	s.Find("team/other", "v1", sbom)
	const sameNumber = `
		INSERT INTO manifest (repository_id, id, digest, media_type_id, artifact_type_id, kind, size, content_size)
		SELECT o.repository_id, m.id, sha256('copy'), o.media_type_id, o.artifact_type_id, o.kind, 1, 1
		FROM manifest o JOIN repository r ON r.id = o.repository_id, manifest m WHERE r.name = 'team/other' AND m.subject IS NOT NULL`
	for _, q := range []string{sameNumber, "UPDATE repository_search SET form = 0"} {
		if tag, err := s.Pool.Exec(t.Context(), q); err != nil || tag.RowsAffected() == 0 {
			t.Fatal(tag, err)
		}
	}
	s.Lead()
	s.Finds("has:signature", "team/app")
	s.Finds("has:sbom")
}

// The size of an index is the sum of its images, in whatever order they are added and
// deleted.
func TestSizeOfIndexFollows(t *testing.T) {
	t.Parallel()
	const name = "team/app"
	s := newShelf(t)
	var images []indexer.Manifest
	for i := range 3 {
		images = append(images, made(name, fmt.Sprint("linux/arch", i), 1<<(10*i), 1, "2026-01-01"))
	}
	index, sparse := listing(name, images...), listing(name, images[0], images[2])
	size := func(want int64) {
		t.Helper()
		s.Finds(fmt.Sprint("tag:v1 type:index size:", want), name)
		if got := s.Rows("SELECT size FROM repository_search"); int64(got) != want {
			t.Errorf("the size of the repository is %d, want %d", got, want)
		}
	}
	s.Find(name, "v1", index)
	s.Find(name, "v0", sparse)
	size(0)
	s.Find(name, images[1].Digest.String(), images[1])
	size(1 << 10)
	s.Find(name, images[0].Digest.String(), images[0])
	s.Find(name, images[2].Digest.String(), images[2])
	size(1 + 1<<10 + 1<<20)
	s.Finds(fmt.Sprint("tag:v0 type:index size:", 1+1<<20), name)
	s.Find(name, images[2].Digest.String()) // deleted
	size(1 + 1<<10)
}

// The push of an image that many large indexes list updates only some of them; Reform
// updates the others.
func TestManyIndexesAreLeft(t *testing.T) {
	t.Parallel()
	const name, indexes, entries = "team/app", 30, 1000
	s := newShelf(t)
	image := made(name, "linux/amd64", 7, 1, "2026-01-01")
	for i := range indexes {
		index := with(listing(name, image))
		for j := range entries - 1 {
			index.Entries = append(index.Entries, indexer.Entry{Digest: digest.FromString(fmt.Sprint(j)), MediaType: ocispec.MediaTypeImageManifest})
		}
		index.Body = fmt.Appendf(nil, "index %d", i)
		index.Digest = digest.FromBytes(index.Body)
		s.Find(name, fmt.Sprint("v", i), index)
	}
	s.Find(name, image.Digest.String(), image)
	right := func() int { return s.Rows("SELECT count(*) FROM image_search WHERE size = 7 AND layers IS NULL") }
	if n := right(); n != search.MaxListing/entries {
		t.Errorf("the push updated %d indexes, want %d", n, search.MaxListing/entries)
	}
	if n, err := s.Reform(t.Context()); n != 1 || err != nil {
		t.Errorf("got %d repositories left to the leader, %v", n, err)
	}
	if n := right(); n != indexes {
		t.Errorf("%d indexes have their size, want %d", n, indexes)
	}
}

// The rows of the images in an index must not contain its tags, or each new tag of a
// large index would rewrite all earlier ones in each row. The tags still find the
// images, until they are deleted.
func TestTagsOfAnIndexStandOnce(t *testing.T) {
	t.Parallel()
	const name = "team/app"
	s := newShelf(t)
	var images []indexer.Manifest
	for i := range 5 {
		images = append(images, made(name, fmt.Sprint("linux/arch", i), 1, 1, "2026-01-01"))
	}
	index := listing(name, images...)
	s.Find(name, "v0", append([]indexer.Manifest{index}, images...)...)
	s.Find(name, "own", images[0])
	for i := range 20 {
		s.Find(name, fmt.Sprint("v", i), index)
	}
	if n := s.Rows("SELECT sum(cardinality(tags)) FROM image_search"); n != 21 {
		t.Errorf("the rows of images contain the 21 tags %d times, want each once", n)
	}
	s.Finds("tag:v19 arch:arch4", name)
	s.Finds("tag:v1? arch:arch4", name)
	s.Finds("tag:own arch:arch0", name)
	s.Finds("tag:own arch:arch4")
	s.Finds("tag:o* arch:arch4")
	of := func(tags ...string) (n int) {
		for _, r := range s.Images(query.Images{{Field: query.FieldTag, Op: query.OpEquals, Values: tags}}) {
			n += len(r.Images)
			for _, l := range r.Lists {
				n += len(l.Images)
			}
		}
		return n
	}
	if n := of("v7", "v8"); n != len(images) {
		t.Errorf("%d images are shown by a tag of the index, want %d", n, len(images))
	}
	s.Find(name, "v19") // deleted
	s.Finds("tag:v19 arch:arch4")
	s.Finds("tag:v18 arch:arch4", name)
}

// The leading tag is latest, else the highest version, else the tag that moved last,
// and never one that keeps a referrer.
func TestLeadingTag(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	attached := "sha256-" + strings.Repeat("0a", 32)
	for i, test := range []struct {
		pushed []string // in this order
		want   string
	}{
		{[]string{"latest", "2.0", "edge"}, "latest"},
		{[]string{"1.9", "1.10", "1.2"}, "1.10"},
		{[]string{"v1.9.0", "v1.10.0", "main", "v1.10.0-rc1"}, "v1.10.0"},
		{[]string{"1.0.1", "1.0"}, "1.0.1"},
		{[]string{"1.9.0", "2.0.0-rc1"}, "1.9.0"}, // a release before a prerelease
		{[]string{"3.18-alpine", "3.19-alpine", "3.9-alpine"}, "3.19-alpine"},
		{[]string{"V2", "1.99"}, "V2"},
		{[]string{"main", "edge"}, "edge"},
		{[]string{"0a1b2c3", "feature"}, "feature"}, // not versions
		{[]string{strings.Repeat("9", 128), "main"}, "main"},
		{[]string{"999999999999999999.1", "1.999999999999999999"}, "999999999999999999.1"},
		{[]string{"main", attached, attached + ".sig"}, "main"},
		{[]string{attached, "sha512-" + strings.Repeat("0", 120)}, ""},
		{[]string{"sha256-"}, "sha256-"},
	} {
		name := fmt.Sprint("team/app-", i)
		for j, tag := range test.pushed {
			s.Find(name, tag, made(name, "linux/amd64", int64(j), 1, "2026-01-01", "tag", tag))
		}
		s.leads(name, test.want)
	}
	many := func(from, to int) {
		for i := from; i < to; i++ {
			s.Find("team/many", fmt.Sprint("1.", i), made("team/many", "linux/amd64", int64(i), 1, "2026-01-01"))
		}
	}
	many(0, 5)
	s.leads("team/many", "1.4")
	s.Find("team/many", "latest", made("team/many", "linux/amd64", 3, 1, "2026-01-01"))
	s.leads("team/many", "latest")
	s.Find("team/many", "latest")
	s.leads("team/many", "1.4")
	s.Find("team/many", "1.4")
	s.leads("team/many", "1.3")
}

func (s shelf) leads(repository, want string) {
	s.T.Helper()
	err := s.View(s.T.Context(), indexer.Everyone, func(v *postgres.View) error {
		r, err := v.Repository(s.T.Context(), repository)
		if err != nil || r.Leading != want {
			s.T.Errorf("%s: got leading tag %q, want %q (%v)", repository, r.Leading, want, err)
		}
		tags, err := v.Tags(s.T.Context(), repository, "", 100)
		if got := indexer.LeadingTag(tags); got != want {
			s.T.Errorf("%s: by the rule in Go %q leads, want %q", repository, got, want)
		}
		return err
	})
	if err != nil {
		s.T.Error(err)
	}
}

// Rows that are updated with each push equal rows that are rewritten as a whole,
// whatever is pushed, moved, attached and deleted, in any order.
func TestRowsFollow(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	random := rand.New(rand.NewPCG(5, 6))
	const name = "team/app"
	var images []indexer.Manifest
	for i := range 5 {
		images = append(images, made(name, fmt.Sprint("linux/arch", i), 1<<i, i, "2026-01-01", "team", fmt.Sprint(i%2)))
	}
	all := slices.Clone(images)
	for i := range 4 {
		var entries []indexer.Entry
		for _, image := range images[:i+1] {
			a, e := attesting(image, []string{"https://spdx.dev/Document", "https://slsa.dev/provenance/v0.2"}[:i%3]...)
			all, entries = append(all, a), append(entries, e)
		}
		all = append(all, with(listing(name, images[:i+1]...), entries[:i]...), listing(name, images[i:]...))
	}
	for _, m := range slices.Clone(all) {
		all = append(all, referring(m, []string{"application/spdx+json", "application/vnd.cncf.notary.signature"}[random.IntN(2)]))
	}
	pick := func() indexer.Manifest { return all[random.IntN(len(all))] }
	tag := func() string {
		return []string{"latest", "1.0", "1.10", "1.9-rc", "main", "edge", "sha256-" + pick().Digest.Encoded() + []string{"", ".sig", ".att"}[random.IntN(3)]}[random.IntN(7)]
	}
	const rows = `SELECT s::text FROM (SELECT repository_id, name, tags, size, facts, ARRAY(SELECT unnest(terms) ORDER BY 1), form, leading_tag, own_tags, signature_tags, sbom_tags, attestation_tags
		FROM repository_search) s UNION ALL SELECT i::text FROM image_search i ORDER BY 1`
	signed := 0
	for i := range 250 {
		switch random.IntN(6) {
		case 0:
			s.Find(name, tag()) // deleted
		case 1:
			s.Find(name, pick().Digest.String())
		case 2, 3:
			m := pick()
			s.Find(name, m.Digest.String(), m)
		default:
			s.Find(name, tag(), pick())
		}
		kept, err := pg.Column[string](t.Context(), s.Pool, rows)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Pool.Exec(t.Context(), "UPDATE repository_search SET form = 0"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Reform(t.Context()); err != nil {
			t.Fatal(err)
		}
		whole, err := pg.Column[string](t.Context(), s.Pool, rows)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(whole, kept); diff != "" {
			t.Fatalf("after %d changes (-rewritten +updated)\n%s", i+1, diff)
		}
		signed += s.Rows("SELECT COALESCE(sum(signature_tags + sbom_tags + attestation_tags), 0) FROM repository_search")
	}
	if signed < 50 {
		t.Errorf("only %d tags had a referrer in all states together: too few for a test", signed)
	}
}

// An image with a subject has the type of its config, even if an older program stored
// it.
func TestImagesThatReferGetTheirType(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	subject := made("team/app", "linux/amd64", 1, 1, "2026-01-01")
	s.Find("team/app", "v1", subject)
	for i, mediaType := range []string{"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"} {
		m := made("team/app", "linux/arm64", 1, 1, "2026-01-01")
		m.Subject, m.Body = subject.Digest, fmt.Appendf(nil, `{"config":{"mediaType":%q}}`, mediaType)
		m.Digest = digest.FromBytes(m.Body)
		s.Find("team/app", fmt.Sprint("refers", i), m)
		s.Finds("type:" + mediaType)
	}
	if _, err := s.Pool.Exec(t.Context(), "UPDATE repository_search SET form = 2"); err != nil {
		t.Fatal(err)
	}
	s.Lead()
	s.Finds("type:application/vnd.oci.image.config.v1+json tag:refers0", "team/app")
	s.Finds("type:application/vnd.docker.container.image.v1+json tag:refers1", "team/app")
	s.Finds("type:application/vnd.docker.container.image.v1+json tag:refers0")
}

// Finding what the images of an index have takes time in proportion to their number.
// A plan that scans all manifests of the repository for each image would read
// millions of rows for an index of 1,000 entries, with each push.
func TestLargeIndexIsLinear(t *testing.T) {
	t.Parallel()
	const name, entries = "team/large", 300
	pool := schematest.New(t)
	s := shelf{postgrestest.On(t, pool)}
	images := make([]indexer.Manifest, entries)
	for i := range images {
		images[i] = made(name, "linux/amd64", int64(i), 1, "2026-01-01")
	}
	index := listing(name, images...)
	s.Find(name, "latest", append([]indexer.Manifest{index}, images...)...)

	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	rowsRead := func() (rows int) {
		const q = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'manifest'"
		if err := tx.QueryRow(t.Context(), q).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		return rows
	}
	var repository int32
	if err := tx.QueryRow(t.Context(), "SELECT id FROM repository WHERE name = $1", name).Scan(&repository); err != nil {
		t.Fatal(err)
	}
	before := rowsRead()
	if _, err := tx.Exec(t.Context(), search.ImagesOf(search.TouchedManifests(true), true), []int32{repository}, [][]byte{pg.DigestBytes(index.Digest)}, []bool{true}); err != nil {
		t.Fatal(err)
	}
	if rows, most := rowsRead()-before, 50*entries; rows > most {
		t.Errorf("read %d rows of manifest for %d entries, want at most %d", rows, entries, most)
	}
}
