package search_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/search"
	"github.com/portbook/portbook/schema/schematest"
)

// The leading tag is decided in SQL. The rule in Go must choose the same one, whatever
// tags there are.
func TestLeadingTagInSQL(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	random := rand.New(rand.NewPCG(3, 5))
	leads := map[string]int{}
	for range 1000 {
		var tags []indexer.Tag
		var names []string
		var times []time.Time
		for range 1 + random.IntN(5) {
			tag := indexer.Tag{Name: randomTag(random), Digest: "sha256:a", MovedAt: time.Unix(int64(random.IntN(3)), 0)}
			tags, names, times = append(tags, tag), append(names, tag.Name), append(times, tag.MovedAt)
		}
		rows, err := pool.Query(t.Context(), search.LeadingQuery, names, times)
		if err != nil {
			t.Fatal(err)
		}
		chosen, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Join(chosen, "") // none or one
		got := indexer.LeadingTag(tags)
		if got != want {
			t.Errorf("%q leads %q of %v, and in SQL %q", got, names, times, want)
		}
		leads[got]++
	}
	if len(leads) < 50 || leads[""] == 0 {
		t.Errorf("only %d tags lead, and none for %d lists: too few to tell", len(leads), leads[""])
	}
}

// randomTag returns a tag that is a version, looks like one, or is another name.
func randomTag(random *rand.Rand) string {
	number := func() string {
		return []string{"0", "1", "01", "2", "9", "10", "25", strings.Repeat("9", 18), strings.Repeat("9", 19)}[random.IntN(9)]
	}
	switch random.IntN(8) {
	case 0:
		return []string{"latest", "Latest", "latest-1"}[random.IntN(3)]
	case 1:
		return []string{"main", "edge", "Edge", "va", "v", "1a", "1.a", "sha-1", "sha256-"}[random.IntN(9)]
	case 2:
		return "sha256-" + strings.Repeat("0a", 32) + []string{"", ".sig"}[random.IntN(2)]
	}
	tag := []string{"", "v", "V", "vv"}[random.IntN(4)] + number()
	for range random.IntN(3) {
		tag += "." + number()
	}
	return tag + []string{"", "", "-rc1", "-RC1", "_2", ".b", "-", "+", "-1.0", "--alpine"}[random.IntN(10)]
}

// The kind that a type tells is the same in SQL and in Go, and so is the kind that the
// tag of an older tool tells.
func TestKindInSQL(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	q := "SELECT COALESCE(" + search.KindCase("lower($1::text)") + ", '')"
	texts := []string{"", "text/plain", "application/SPDX+json", "application/vnd.in-toto+json", "spdx.signature", "attestation.sbom"}
	for _, p := range indexer.ReferrerParts() {
		texts = append(texts, p.Part, "application/vnd."+strings.ToUpper(p.Part)+".v1")
	}
	for _, text := range texts {
		var got indexer.ReferrerKind
		if err := pool.QueryRow(t.Context(), q, text).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if want := (indexer.Referrer{ArtifactType: text}).Kind(); got != want {
			t.Errorf("%q is %q in SQL and %q in Go", text, got, want)
		}
		if want := (indexer.Referrer{Tag: "sha256-0a" + text}).Kind(); strings.HasPrefix(text, ".") && got != want {
			t.Errorf("the tag with %s is %q in SQL and %q in Go", text, got, want)
		}
	}
}
