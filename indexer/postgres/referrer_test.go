package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// listOf returns an index of digests.
func listOf(repository string, digests ...digest.Digest) indexer.Manifest {
	body := fmt.Appendf(nil, "%v", digests)
	m := indexer.Manifest{Repository: repository, Digest: digest.FromBytes(body), MediaType: ocispec.MediaTypeImageIndex, Kind: indexer.KindIndex,
		Size: int64(len(body)), Body: body}
	for _, d := range digests {
		m.Entries = append(m.Entries, indexer.Entry{Digest: d, MediaType: ocispec.MediaTypeImageManifest})
	}
	return m
}

// referrersOf returns the referrers of all pages, and the number of pages.
func referrersOf(t *testing.T, s *postgres.Store, q indexer.ReferrerQuery) (all []indexer.Referrer, pages int) {
	t.Helper()
	view(t, s, func(v *postgres.View) error {
		for more := true; more; pages++ {
			page, err := v.Referrers(t.Context(), q)
			if err != nil {
				return err
			}
			if page.More && len(page.Items) == 0 || len(page.Items) > q.Limit {
				t.Fatalf("got a page of %d referrers, more %t", len(page.Items), page.More)
			}
			if all = append(all, page.Items...); page.More {
				last := page.Items[len(page.Items)-1]
				q.After, q.AfterTag = last.Digest, last.Tag
			}
			more = page.More
		}
		return nil
	})
	return all, pages
}

// Manifests that name the subject, that the index on its referrers tag lists, and
// that cosign's tags show are each returned once, for every kind of query and page
// size.
func TestReferrers(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	subject := image("demo/app", "subject")
	setTag(t, s, "v1", subject)
	fallback := "sha256-" + subject.Digest.Encoded()
	both, named, only, signature := image("demo/app", "both"), image("demo/app", "named"), image("demo/app", "only"), image("demo/app", "signature")
	both.Subject, named.Subject = subject.Digest, subject.Digest
	both.ArtifactType, only.ArtifactType = "a/sbom", "a/sbom"
	only.Annotations = map[string]string{"k": "v"}
	setTag(t, s, "both", both)
	setTag(t, s, "named", named)
	setTag(t, s, "only", only)
	setTag(t, s, fallback+".sig", signature)
	setTag(t, s, fallback+".att", signature)
	setTag(t, s, fallback, listOf("demo/app", both.Digest, only.Digest, digest.FromString("absent"), only.Digest))
	name := map[digest.Digest]string{both.Digest: "both", named.Digest: "named", only.Digest: "only", signature.Digest: "signature"}

	for _, test := range []struct {
		oci   bool
		types []string
		want  []string
	}{
		{false, nil, []string{"both ", "named ", "only " + fallback, "signature " + fallback + ".att", "signature " + fallback + ".sig"}},
		{true, nil, []string{"both ", "named ", "only " + fallback}},
		{true, []string{"a/sbom", "a/other"}, []string{"both ", "only " + fallback}},
		{true, []string{"a/other"}, nil},
	} {
		for limit := 1; limit <= 6; limit++ {
			all, pages := referrersOf(t, s, indexer.ReferrerQuery{Repository: "demo/app", Subject: subject.Digest, OCI: test.oci, Types: test.types, Limit: limit})
			var got []string
			for _, r := range all {
				got = append(got, name[r.Digest]+" "+r.Tag)
				if r.Digest == only.Digest && (r.ArtifactType != "a/sbom" || r.Annotations["k"] != "v" || r.Size != only.Size || r.MediaType != only.MediaType) {
					t.Errorf("%+v", r)
				}
			}
			if !slices.IsSortedFunc(all, func(a, b indexer.Referrer) int {
				return strings.Compare(string(a.Digest)+a.Tag, string(b.Digest)+b.Tag)
			}) {
				t.Errorf("got referrers that are not in order of digest and tag: %v", got)
			}
			slices.Sort(got)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%+v by %d (-want +got)\n%s", test, limit, diff)
			}
			if want := max(1, (len(test.want)+limit-1)/limit); pages != want {
				t.Errorf("%+v by %d: %d pages, want %d", test, limit, pages, want)
			}
		}
	}
}

// Large or many annotations do not make a large answer: a page ends early.
func TestReferrersAreBounded(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	subject := image("demo/app", "subject")
	setTag(t, s, "v1", subject)
	var listed []digest.Digest
	for i := range 30 {
		m := image("demo/app", fmt.Sprint("referrer ", i))
		m.Annotations = map[string]string{"large": strings.Repeat("x", 256<<10)} // compresses to 3 KB in the database
		setTag(t, s, fmt.Sprint("r", i), m)
		listed = append(listed, m.Digest)
	}
	setTag(t, s, "sha256-"+subject.Digest.Encoded(), listOf("demo/app", listed...))
	all, pages := referrersOf(t, s, indexer.ReferrerQuery{Repository: "demo/app", Subject: subject.Digest, OCI: true, Limit: 1000})
	if len(all) != 30 || pages != 15 { // 2 on each: 512 KiB plus their types
		t.Errorf("got %d referrers of 256 KiB on %d pages, want 30 on 15", len(all), pages)
	}
}

// A page of referrers reads each listed manifest a few times, not once for each of
// the others: in a new database without statistics, the planner may choose an index
// that begins with the repository instead of the one that finds the manifest.
func TestReferrersReadFewRows(t *testing.T) {
	t.Parallel()
	const many = 1000
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	subject := image("demo/app", "subject")
	listed := make([]indexer.Manifest, many)
	digests := make([]digest.Digest, many)
	for i := range many {
		listed[i] = image("demo/app", fmt.Sprint("referrer ", i))
		if i%2 == 0 {
			listed[i].Subject = subject.Digest
		}
		digests[i] = listed[i].Digest
	}
	fallback := listOf("demo/app", digests...)
	tag := strings.Replace(subject.Digest.String(), ":", "-", 1)
	store(t, s, tag, indexer.Finding{Task: indexer.Task{Repository: "demo/app"}, Outcome: indexer.Found, Digest: fallback.Digest,
		Manifests: append(listed, fallback)})
	for _, oci := range []bool{true, false} {
		view(t, s, func(v *postgres.View) error {
			before := rowsRead(t, v)
			page, err := v.Referrers(t.Context(), indexer.ReferrerQuery{Repository: "demo/app", Subject: subject.Digest, OCI: oci, Limit: many})
			if err != nil {
				return err
			}
			if len(page.Items) != many {
				t.Errorf("%d referrers, want %d", len(page.Items), many)
			}
			// For each: an entry, a row that names the subject, a manifest that is
			// looked up at most three times, and a media type.
			if read, most := rowsRead(t, v)-before, 8*many; read < many || read > most {
				t.Errorf("oci %t: read %d rows for a page of %d, want at most %d", oci, read, many, most)
			}
			return nil
		})
	}
}

// rowsRead returns how many rows this connection has read and not yet reported to
// the server's statistics.
func rowsRead(t *testing.T, v *postgres.View) (n int) {
	t.Helper()
	const q = "SELECT sum(seq_tup_read + COALESCE(idx_tup_fetch, 0))::int FROM pg_stat_xact_user_tables"
	if err := postgres.Scan(t.Context(), v, q, &n); err != nil {
		t.Fatal(err)
	}
	return n
}
