package postgres

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
)

// A manifestRow is a manifest with the ids of its media types and platforms.
type manifestRow struct {
	indexer.Manifest
	mediaType, artifactType, platform *int32
	entryTypes, entryPlatforms        []*int32
	unfinished                        bool // not all of it was read
}

// manifestRows looks up media types and platforms before the transaction: see
// dictionary.
func (s *Store) manifestRows(ctx context.Context, findings []indexer.Finding) ([]manifestRow, error) {
	w, err := s.words(ctx, findings)
	if err != nil {
		return nil, err
	}
	var rows []manifestRow
	for _, f := range findings {
		for _, m := range f.Manifests {
			row := w.row(m)
			row.unfinished = f.Unfinished
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func (w words) row(m indexer.Manifest) manifestRow {
	row := manifestRow{
		Manifest: m, mediaType: w.mediaType(mediaTypeOf(m)), artifactType: w.mediaType(indexer.CleanText(m.ArtifactType)),
		platform: w.platform(m.Platform),
	}
	for _, e := range m.Entries {
		row.entryTypes = append(row.entryTypes, w.mediaType(indexer.CleanText(e.MediaType)))
		row.entryPlatforms = append(row.entryPlatforms, w.platform(e.Platform))
	}
	return row
}

// mediaTypeOf returns the media type of a manifest. If there is none, it returns the
// type that a body without a type may be assumed to have (RFC 9110, 8.3).
func mediaTypeOf(m indexer.Manifest) string {
	return cmp.Or(indexer.CleanText(m.MediaType), "application/octet-stream")
}

// storeManifests stores manifests that were just read, with one statement for each
// table. A manifest that the book already holds was read again because it had
// problems, and is replaced, unless less of it was read than is stored.
func (a *application) storeManifests(ctx context.Context, rows []manifestRow) error {
	rows, err := a.withoutKnown(ctx, once(rows))
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return nil
	}
	blobs, err := a.storeBlobs(ctx, rows)
	if err != nil {
		return err
	}
	var c manifestColumns
	var refs refColumns
	for _, m := range rows {
		repository, err := a.idOf(m.Repository)
		if err != nil {
			return err
		}
		c.add(repository, m, blobs)
		refs.add(m.Manifest)
		a.changed[repository] = true
		a.touched.Change(repository, pg.DigestBytes(m.Digest))
		a.touched.Change(repository, pg.DigestBytes(m.Subject))
	}
	batch := &pgx.Batch{}
	c.queue(batch)
	refs.queue(batch)
	return a.send(ctx, batch)
}

// withoutKnown leaves out a manifest that the book holds if the new one is
// unfinished, if the stored one has no problems, or if it is an index and its
// problems are the same. Such a manifest was read by several tasks and one was
// first, as when many tags move to one index at once.
func (a *application) withoutKnown(ctx context.Context, rows []manifestRow) ([]manifestRow, error) {
	type key struct {
		repository int32
		digest     digest.Digest
	}
	var repositories []int32
	var digests [][]byte
	for _, m := range rows {
		repositories, digests = append(repositories, a.repositories[m.Repository]), append(digests, pg.DigestBytes(m.Digest))
	}
	if len(digests) == 0 {
		return rows, nil
	}
	type row struct {
		RepositoryID int32
		Digest       []byte
		Kind         string
		Problems     []string
	}
	found, err := pg.Collect[row](ctx, a.tx, `
		SELECT m.repository_id, m.digest, m.kind, m.problems FROM unnest($1::int[], $2::bytea[]) AS wanted (repository_id, digest)
		JOIN manifest m ON m.repository_id = wanted.repository_id AND m.digest = wanted.digest`, repositories, digests)
	known := map[key]row{}
	for _, k := range found {
		known[key{k.RepositoryID, pg.DigestFrom(k.Digest)}] = k
	}
	return slices.DeleteFunc(rows, func(m manifestRow) bool {
		k, ok := known[key{a.repositories[m.Repository], m.Digest}]
		return ok && (m.unfinished || len(k.Problems) == 0 || k.Kind == string(indexer.KindIndex) && slices.Equal(k.Problems, storedProblems(m.Problems)))
	}), err
}

// once removes duplicates, as when two tags of one batch show the same manifest: a
// statement may not touch a row twice. The result is sorted in the order in which
// rows are locked.
func once(rows []manifestRow) []manifestRow {
	type key struct {
		repository string
		digest     digest.Digest
	}
	seen := map[key]bool{}
	var kept []manifestRow
	for _, m := range rows {
		if k := (key{m.Repository, m.Digest}); !seen[k] {
			seen[k] = true
			kept = append(kept, m)
		}
	}
	sort.Slice(kept, func(i, j int) bool {
		a, b := kept[i], kept[j]
		return a.Repository < b.Repository || a.Repository == b.Repository && a.Digest < b.Digest
	})
	return kept
}

// manifestColumns holds manifests as columns, for unnest.
type manifestColumns struct {
	repository                        []int32
	digest, subject, body             [][]byte
	mediaType, artifactType, platform []*int32
	kind, layers, problems            []string
	size, contentSize                 []int64
	created                           []*time.Time
	labels, annotations, config       []*string
	configID                          []*int64
	entries                           entryColumns
}

// storedProblems returns problems as they are stored.
func storedProblems(problems []string) []string {
	stored := make([]string, len(problems))
	for i, p := range problems {
		stored[i] = strings.ReplaceAll(indexer.CleanText(p), pg.Separator, " ")
	}
	return stored
}

type entryColumns struct {
	repository, position []int32
	index, digest        [][]byte
	mediaType, platform  []*int32
	size                 []int64
	annotations          []*string
}

func (c *manifestColumns) add(repository int32, m manifestRow, blobs map[digest.Digest]int64) {
	var config *int64
	if m.Config != nil {
		if id, ok := blobs[m.Config.Digest]; ok {
			config = &id
		}
	}
	layers := make([]string, len(m.Layers))
	for i, l := range m.Layers {
		layers[i] = strconv.FormatInt(blobs[l.Digest], 10)
	}
	c.repository, c.digest, c.subject = append(c.repository, repository), append(c.digest, pg.DigestBytes(m.Digest)), append(c.subject, pg.DigestBytes(m.Subject))
	c.mediaType, c.artifactType, c.platform = append(c.mediaType, m.mediaType), append(c.artifactType, m.artifactType), append(c.platform, m.platform)
	c.kind, c.layers, c.problems = append(c.kind, string(m.Kind)), append(c.layers, strings.Join(layers, pg.Separator)), append(c.problems, strings.Join(storedProblems(m.Problems), pg.Separator))
	c.size, c.contentSize = append(c.size, m.Size), append(c.contentSize, m.ContentSize)
	c.created = append(c.created, pg.TimeOrNull(m.CreatedAt))
	c.labels, c.annotations = append(c.labels, pg.StringsJSON(m.Labels)), append(c.annotations, pg.StringsJSON(m.Annotations))
	c.body, c.config, c.configID = append(c.body, m.Body), append(c.config, configJSON(m.ConfigBody)), append(c.configID, config)
	for i, e := range m.Entries {
		c.entries.add(repository, m, i, e)
	}
}

func (c *entryColumns) add(repository int32, m manifestRow, i int, e indexer.Entry) {
	c.repository, c.position = append(c.repository, repository), append(c.position, int32(i))
	c.index, c.digest = append(c.index, pg.DigestBytes(m.Digest)), append(c.digest, pg.DigestBytes(e.Digest))
	c.mediaType, c.platform = append(c.mediaType, m.entryTypes[i]), append(c.platform, m.entryPlatforms[i])
	c.size, c.annotations = append(c.size, e.Size), append(c.annotations, pg.StringsJSON(e.Annotations))
}

// queue queues the statements that store manifests and the rows that belong to them.
func (c *manifestColumns) queue(batch *pgx.Batch) {
	const manifests = `
		INSERT INTO manifest (repository_id, digest, media_type_id, artifact_type_id, kind, platform_id, size, content_size,
			created_at, labels, annotations, subject, config_id, layer_ids, problems)
		SELECT repository_id, digest, media_type_id, artifact_type_id, kind, platform_id, size, content_size, created_at,
			labels::jsonb, annotations::jsonb, subject, config_id, string_to_array(layers, chr(31))::bigint[],
			string_to_array(problems, chr(31))
		FROM unnest($1::int[], $2::bytea[], $3::int[], $4::int[], $5::text[], $6::int[], $7::bigint[], $8::bigint[],
			$9::timestamptz[], $10::text[], $11::text[], $12::bytea[], $13::bigint[], $14::text[], $15::text[])
			AS read (repository_id, digest, media_type_id, artifact_type_id, kind, platform_id, size, content_size, created_at,
				labels, annotations, subject, config_id, layers, problems)
		ON CONFLICT (repository_id, digest) DO UPDATE SET
			(media_type_id, artifact_type_id, kind, platform_id, size, content_size, created_at, labels, annotations, subject,
				config_id, layer_ids, problems) =
			(excluded.media_type_id, excluded.artifact_type_id, excluded.kind, excluded.platform_id, excluded.size,
				excluded.content_size, excluded.created_at, excluded.labels, excluded.annotations, excluded.subject,
				excluded.config_id, excluded.layer_ids, excluded.problems)`
	batch.Queue(manifests, c.repository, c.digest, c.mediaType, c.artifactType, c.kind, c.platform, c.size, c.contentSize,
		c.created, c.labels, c.annotations, c.subject, c.configID, c.layers, c.problems)
	const bodies = `
		INSERT INTO manifest_body (repository_id, manifest_id, body, config)
		SELECT m.repository_id, m.id, read.body, read.config::jsonb
		FROM unnest($1::int[], $2::bytea[], $3::bytea[], $4::text[]) AS read (repository_id, digest, body, config)
		JOIN manifest m ON m.repository_id = read.repository_id AND m.digest = read.digest
		WHERE read.body IS NOT NULL
		ON CONFLICT (repository_id, manifest_id) DO UPDATE SET body = excluded.body, config = excluded.config`
	batch.Queue(bodies, c.repository, c.digest, c.body, c.config)
	const referrers = `
		INSERT INTO referrer (repository_id, subject, manifest_id)
		SELECT m.repository_id, m.subject, m.id
		FROM unnest($1::int[], $2::bytea[], $3::bytea[]) AS read (repository_id, digest, subject)
		JOIN manifest m ON m.repository_id = read.repository_id AND m.digest = read.digest
		WHERE read.subject IS NOT NULL ON CONFLICT DO NOTHING`
	if slices.ContainsFunc(c.subject, func(s []byte) bool { return s != nil }) {
		batch.Queue(referrers, c.repository, c.digest, c.subject)
	}
	c.entries.queue(batch)
}

func (c *entryColumns) queue(batch *pgx.Batch) {
	if len(c.repository) == 0 {
		return
	}
	const entries = `
		INSERT INTO index_entry (repository_id, manifest_id, position, digest, media_type_id, platform_id, size, annotations)
		SELECT m.repository_id, m.id, read.position, read.digest, read.media_type_id, read.platform_id, read.size, read.annotations::jsonb
		FROM unnest($1::int[], $2::bytea[], $3::int[], $4::bytea[], $5::int[], $6::int[], $7::bigint[], $8::text[])
			AS read (repository_id, index, position, digest, media_type_id, platform_id, size, annotations)
		JOIN manifest m ON m.repository_id = read.repository_id AND m.digest = read.index
		ON CONFLICT DO NOTHING`
	batch.Queue(entries, c.repository, c.index, c.position, c.digest, c.mediaType, c.platform, c.size, c.annotations)
}

// storeBlobs inserts the blobs that manifests name, and returns their ids. The
// content of a blob is never stored.
func (a *application) storeBlobs(ctx context.Context, rows []manifestRow) (map[digest.Digest]int64, error) {
	sizes := map[digest.Digest]int64{}
	for _, m := range rows {
		if m.Config != nil {
			sizes[m.Config.Digest] = m.Config.Size
		}
		for _, l := range m.Layers {
			sizes[l.Digest] = l.Size
		}
	}
	var digests [][]byte
	var bytesOfBlob []int64
	for d := range sizes {
		digests = append(digests, pg.DigestBytes(d))
	}
	sort.Slice(digests, func(i, j int) bool { return bytes.Compare(digests[i], digests[j]) < 0 })
	for _, d := range digests {
		bytesOfBlob = append(bytesOfBlob, sizes[pg.DigestFrom(d)])
	}
	// Only missing rows are inserted: ON CONFLICT alone would use a number of the
	// sequence for each blob of each manifest.
	const create = `
		INSERT INTO blob (digest, size)
		SELECT digest, size FROM unnest($1::bytea[], $2::bigint[]) AS wanted (digest, size)
		WHERE NOT EXISTS (SELECT FROM blob b WHERE b.digest = wanted.digest)
		ORDER BY digest ON CONFLICT DO NOTHING`
	type row struct {
		ID     int64
		Digest []byte
	}
	var found []row
	batch := &pgx.Batch{}
	batch.Queue(create, digests, bytesOfBlob)
	pg.Queue(batch, &found, "SELECT id, digest FROM blob WHERE digest = ANY($1)", digests)
	err := a.send(ctx, batch)
	ids := map[digest.Digest]int64{}
	for _, b := range found {
		ids[pg.DigestFrom(b.Digest)] = b.ID
	}
	return ids, err
}

// removeManifests removes manifests that the registry no longer has. If a tag in the
// book still shows the manifest, the manifest stays for now: the tag is enqueued,
// and the manifest is read again after it. A tag that is already enqueued is not
// enqueued again, because that would reset the attempts of a tag that cannot be
// read, and it would never be given up. A tag that was given up no longer shows the
// manifest.
func (a *application) removeManifests(ctx context.Context, findings []indexer.Finding) error {
	const unshow = `
		UPDATE tag t SET manifest_id = NULL FROM manifest m WHERE (m.repository_id, m.digest) = ($1, $2)
			AND t.repository_id = $1 AND t.manifest_id = m.id AND t.problem IS NOT NULL`
	const remove = `
		WITH gone AS (
			DELETE FROM manifest m WHERE (repository_id, digest) = ($1, $2)
				AND NOT EXISTS (SELECT FROM tag t WHERE t.repository_id = $1 AND t.manifest_id = m.id) RETURNING id
		)
		SELECT ARRAY(
			SELECT f.subject FROM referrer f WHERE f.repository_id = $1 AND f.manifest_id = gone.id
			UNION SELECT ` + search.Attests + ` FROM index_entry e WHERE e.repository_id = $1 AND e.manifest_id = gone.id AND ` + search.Attests + ` IS NOT NULL
		) AS subjects FROM gone`
	const tags = `
		SELECT t.name, EXISTS (SELECT FROM task k WHERE (k.repository, k.reference) = ($3, t.name) AND k.given_up_at IS NULL) AS asked
		FROM tag t JOIN manifest m ON m.repository_id = t.repository_id AND m.id = t.manifest_id
		WHERE (m.repository_id, m.digest) = ($1, $2)`
	for _, f := range findings {
		d := f.Task.Digest()
		repository, known := a.repositories[f.Task.Repository]
		if f.Outcome != indexer.Gone || d == "" || !known {
			continue
		}
		if _, err := a.tx.Exec(ctx, unshow, repository, pg.DigestBytes(d)); err != nil {
			return err
		}
		a.touched.Add(repository, pg.DigestBytes(d))
		removed, err := pg.Column[[][]byte](ctx, a.tx, remove, repository, pg.DigestBytes(d))
		if err != nil {
			return err
		}
		for _, subjects := range removed {
			a.changed[repository] = true // its image is removed too
			for _, digest := range append(subjects, pg.DigestBytes(d)) {
				a.touched.Change(repository, digest)
			}
		}
		if len(removed) > 0 {
			continue
		}
		shown, err := pg.Collect[shownBy](ctx, a.tx, tags, repository, pg.DigestBytes(d), f.Task.Repository)
		if err != nil {
			return err
		}
		a.askAfterTags(f.Task, shown)
	}
	return nil
}

// afterTags is how long a task for a manifest waits for the tasks of its tags: 500
// ms.
const afterTags = 500 * time.Millisecond

// shownBy is a tag that shows a manifest; Asked reports whether it has a task.
type shownBy struct {
	Name  string
	Asked bool
}

func (a *application) askAfterTags(t indexer.Task, tags []shownBy) {
	for _, tag := range tags {
		if !tag.Asked {
			a.asks = append(a.asks, indexer.Ask{Repository: t.Repository, Reference: tag.Name, Priority: t.Priority})
		}
	}
	if len(tags) > 0 {
		a.again[t.ID] = afterTags
	}
}

// configJSON returns a config as text for jsonb, nil if there is none.
func configJSON(body []byte) *string {
	if len(body) == 0 {
		return nil
	}
	s := string(body)
	return &s
}
