package search

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A Difference is a derived value that does not follow from the manifests and tags.
type Difference struct {
	Where string // digest of the manifest, "" for the row of the repository
	What  string // "image_search.size is 0, should be 42"
}

// verifyBatch is the maximum number of manifests whose rows one statement of
// Differences compares: 500, about 100 ms.
const verifyBatch = 500

// notDerived are columns of compared tables that do not follow from manifests and
// tags.
var notDerived = map[string]string{
	"image_search.terms":     "empty: of programs before keys and pairs",
	"repository_search.tier": "of an older program",
}

// Differences compares the derived rows of the one repository in ids with its
// manifests and tags, for postgres.Store.Differences.
func Differences(ctx context.Context, tx pgx.Tx, ids []int32) ([]Difference, error) {
	c := comparison{tx: tx, ids: ids}
	for _, compare := range []func(context.Context) error{c.images, c.repository, c.referrers} {
		if err := compare(ctx); err != nil {
			return nil, err
		}
	}
	return c.found, nil
}

// A comparison is one run of Differences.
type comparison struct {
	tx    pgx.Tx
	ids   []int32 // the one repository
	found []Difference
}

// images compares image_search, one batch of manifests after another.
func (c *comparison) images(ctx context.Context) error {
	columns := append([]string{"repository_id", "manifest_id"}, imageColumns...)
	differing, err := c.differing(ctx, "image_search", columns)
	if err != nil {
		return err
	}
	manifests := `
		SELECT repository_id, id, digest, true AS whole FROM manifest
		WHERE repository_id = ANY($1) AND id > $2 ORDER BY id LIMIT ` + strconv.Itoa(verifyBatch)
	q := shownImages(manifests, true) + `, fresh (` + strings.Join(columns, ", ") + `) AS (` + imageRows("tagged", true) + `)
		SELECT x.id, x.digest, ` + differing + ` AS what FROM touched x
		LEFT JOIN fresh f ON f.repository_id = x.repository_id AND f.manifest_id = x.id
		LEFT JOIN image_search s ON s.repository_id = x.repository_id AND s.manifest_id = x.id ORDER BY x.id`
	type row struct {
		ID     int64
		Digest []byte
		What   []string
	}
	for after, n := int64(0), verifyBatch; n == verifyBatch; {
		rows, err := pg.Collect[row](ctx, c.tx, q, c.ids, after)
		if err != nil {
			return err
		}
		for _, r := range rows {
			after = r.ID
			c.differ("image_search", pg.DigestFrom(r.Digest).String(), r.What)
		}
		n = len(rows)
	}
	return nil
}

// repository compares the row of repository_search.
func (c *comparison) repository(ctx context.Context) error {
	const noForm = -1 // no row has it, so nothing is copied from a stored row
	heads, err := pg.Collect[headRow](ctx, c.tx, headsQueries[true], headsArgs(Touched{}, c.ids, noForm)...)
	if err != nil {
		return err
	}
	var fresh searchRows
	for _, h := range heads {
		fresh.add(h)
	}
	differing, err := c.differing(ctx, "repository_search", searchRowColumns)
	if err != nil {
		return err
	}
	q := `
		WITH fresh (` + strings.Join(searchRowColumns, ", ") + `) AS (` + selectSearchRows(2) + `)
		SELECT CASE WHEN s.form <> f.form OR s.leading_tag IS NULL AND s.form IS NOT NULL
				THEN ARRAY['form is ' || s.form || ', which the leader makes ` + strconv.Itoa(searchForm) + `']
			ELSE ` + differing + ` END AS what
		FROM fresh f FULL JOIN (SELECT * FROM repository_search WHERE repository_id = ANY($1)) s ON s.repository_id = f.repository_id`
	found, err := pg.Column[[]string](ctx, c.tx, q, append([]any{c.ids}, pg.Arrays(fresh.rows)...)...)
	for _, what := range found {
		c.differ("repository_search", "", what)
	}
	return err
}

// referrers compares the rows of referrer, whose columns are all part of its key.
func (c *comparison) referrers(ctx context.Context) error {
	columns := []string{"repository_id", "subject", "manifest_id", "tag"}
	if _, err := c.differing(ctx, "referrer", columns); err != nil {
		return err
	}
	const q = `
		WITH fresh AS (
			SELECT repository_id, subject, id AS manifest_id, '' AS tag FROM manifest WHERE repository_id = ANY($1) AND subject IS NOT NULL
			UNION ALL
			SELECT t.repository_id, decode(substr(t.name, 8, 64), 'hex'), m.id, t.name
			FROM tag t JOIN manifest m ON m.repository_id = t.repository_id AND m.id = t.manifest_id AND m.kind <> 'index'
			WHERE t.repository_id = ANY($1) AND t.name ~ '^sha256-[0-9a-f]{64}(\.[a-z]+)?$'
		), stored AS (SELECT repository_id, subject, manifest_id, tag FROM referrer WHERE repository_id = ANY($1))
		SELECT m.digest, r.subject, r.tag, r.lacks FROM (
			SELECT *, true AS lacks FROM (SELECT * FROM fresh EXCEPT SELECT * FROM stored) AS missing
			UNION ALL
			SELECT *, false FROM (SELECT * FROM stored EXCEPT SELECT * FROM fresh) AS left_over
		) AS r JOIN manifest m ON m.repository_id = r.repository_id AND m.id = r.manifest_id ORDER BY m.digest, r.subject, r.tag`
	type row struct {
		Digest, Subject []byte
		Tag             string
		Lacks           bool
	}
	rows, err := pg.Collect[row](ctx, c.tx, q, c.ids)
	for _, r := range rows {
		what := "unexpected row"
		if r.Lacks {
			what = "missing row"
		}
		by := cmp.Or(r.Tag, "its subject")
		c.found = append(c.found, Difference{
			Where: pg.DigestFrom(r.Digest).String(),
			What:  fmt.Sprintf("referrer: %s for %s by %s", what, pg.DigestFrom(r.Subject), by),
		})
	}
	return err
}

func (c *comparison) differ(table, where string, what []string) {
	for _, w := range what {
		c.found = append(c.found, Difference{where, table + "." + w})
	}
}

// differing returns an expression on fresh f and stored s: the columns that differ,
// with both values. All columns of the stored table must be in fresh, except those of
// notDerived.
func (c *comparison) differing(ctx context.Context, table string, fresh []string) (string, error) {
	const q = `
		SELECT column_name::text FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position`
	stored, err := pg.Column[string](ctx, c.tx, q, table)
	if err != nil {
		return "", err
	}
	var cases []string
	for _, name := range stored {
		if notDerived[table+"."+name] != "" {
			continue
		}
		if !slices.Contains(fresh, name) {
			return "", fmt.Errorf("the column %s.%s is unknown to this program: run verify with the version"+
				" that the schema belongs to: %w",
				table, name, indexer.ErrUnavailable)
		}
		is, should := "s."+name, "f."+name
		if name == "terms" { // its order has no meaning
			is, should = "ARRAY(SELECT unnest("+is+") ORDER BY 1)", "ARRAY(SELECT unnest("+should+") ORDER BY 1)"
		}
		const differ = "CASE WHEN %[2]s IS DISTINCT FROM %[3]s THEN '%[1]s is ' || %[4]s || ', should be ' || %[5]s END"
		cases = append(cases, fmt.Sprintf(differ, name, is, should, excerpt(is), excerpt(should)))
	}
	return fmt.Sprintf(`CASE WHEN s.repository_id IS NULL AND f.repository_id IS NOT NULL THEN ARRAY['repository_id: the row is missing']
		WHEN s.repository_id IS NOT NULL AND f.repository_id IS NULL THEN ARRAY['repository_id: there should be no row']
		ELSE array_remove(ARRAY[%s], NULL) END`, strings.Join(cases, ", ")), nil
}

// excerpt returns an expression for the first 200 characters of a value as JSON.
func excerpt(value string) string {
	return "left(COALESCE(to_jsonb(" + value + ")::text, 'null'), 200)"
}
