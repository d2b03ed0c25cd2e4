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
	"github.com/portbook/portbook/indexer/deliver"
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
		Manifest: m, mediaType: w.mediaType(mediaTypeOf(m)), artifactType: w.mediaType(m.ArtifactType),
		platform: w.platform(m.Platform),
	}
	for _, e := range m.Entries {
		row.entryTypes = append(row.entryTypes, w.mediaType(e.MediaType))
		row.entryPlatforms = append(row.entryPlatforms, w.platform(e.Platform))
	}
	return row
}

// mediaTypeOf returns the media type of a manifest. If there is none, it returns the
// type that a body without a type may be assumed to have (RFC 9110, 8.3).
func mediaTypeOf(m indexer.Manifest) string {
	return cmp.Or(m.MediaType, "application/octet-stream")
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
	var all newRows
	for _, m := range rows {
		repository, err := a.idOf(m.Repository)
		if err != nil {
			return err
		}
		all.add(repository, m, blobs)
		a.changed[repository] = true
		a.touched.Change(repository, pg.DigestBytes(m.Digest))
		a.touched.Change(repository, pg.DigestBytes(m.Subject))
	}
	batch := &pgx.Batch{}
	all.queue(batch)
	return a.send(ctx, batch)
}

// A manifestKey is the key of a manifest in what statements read and return.
type manifestKey struct {
	RepositoryID int32
	Digest       []byte
}

var knownManifests = `
	SELECT m.repository_id, m.digest, m.kind, m.problems FROM ` + pg.Unnest[manifestKey]("wanted", 1) + `
	JOIN manifest m ON m.repository_id = wanted.repository_id AND m.digest = wanted.digest`

// withoutKnown leaves out a manifest that the book holds if the new one is
// unfinished, if the stored one has no problems, or if it is an index and its
// problems are the same. Such a manifest was read by several tasks and one was
// first, as when many tags move to one index at once.
func (a *application) withoutKnown(ctx context.Context, rows []manifestRow) ([]manifestRow, error) {
	type key struct {
		repository int32
		digest     digest.Digest
	}
	var wanted []manifestKey
	for _, m := range rows {
		wanted = append(wanted, manifestKey{a.repositories[m.Repository], pg.DigestBytes(m.Digest)})
	}
	if len(wanted) == 0 {
		return rows, nil
	}
	type row struct {
		RepositoryID int32
		Digest       []byte
		Kind         string
		Problems     []string
	}
	found, err := pg.Collect[row](ctx, a.tx, knownManifests, pg.Arrays(wanted)...)
	known := map[key]row{}
	for _, k := range found {
		known[key{k.RepositoryID, pg.DigestFrom(k.Digest)}] = k
	}
	return slices.DeleteFunc(rows, func(m manifestRow) bool {
		k, ok := known[key{a.repositories[m.Repository], m.Digest}]
		sameIndex := k.Kind == string(indexer.KindIndex) && slices.Equal(k.Problems, storedProblems(m.Problems))
		return ok && (m.unfinished || len(k.Problems) == 0 || sameIndex)
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

// storedProblems returns problems without pg.Separator, as they are stored.
func storedProblems(problems []string) []string {
	stored := make([]string, len(problems))
	for i, p := range problems {
		stored[i] = strings.ReplaceAll(p, pg.Separator, " ")
	}
	return stored
}

// newRows are the rows that store manifests and what belongs to them, by table.
type newRows struct {
	manifests []newManifest
	bodies    []newBody
	referrers []newReferrer
	entries   []newEntry
	flatpaks  []newFlatpak
}

type newManifest struct {
	RepositoryID   int32
	Digest         []byte
	MediaTypeID    *int32
	ArtifactTypeID *int32
	Kind           string
	PlatformID     *int32
	Size           int64
	ContentSize    int64
	CreatedAt      *time.Time
	Labels         *string
	Annotations    *string
	Subject        []byte
	ConfigID       *int64
	Layers         string // ids of blobs, joined by pg.Separator
	Problems       string // joined by pg.Separator
}

type newBody struct {
	RepositoryID int32
	Digest       []byte
	Body         []byte
	Config       *string
}

type newReferrer struct {
	RepositoryID int32
	Digest       []byte
	Subject      []byte
}

type newEntry struct {
	RepositoryID int32
	Index        []byte // digest of the index
	Position     int32
	Digest       []byte
	MediaTypeID  *int32
	PlatformID   *int32
	Size         int64
	Annotations  *string
}

func (s *newRows) add(repository int32, m manifestRow, blobs map[digest.Digest]int64) {
	d, subject := pg.DigestBytes(m.Digest), pg.DigestBytes(m.Subject)
	s.manifests = append(s.manifests, newManifest{
		RepositoryID: repository, Digest: d, Subject: subject, Kind: string(m.Kind),
		MediaTypeID: m.mediaType, ArtifactTypeID: m.artifactType, PlatformID: m.platform,
		Size: m.Size, ContentSize: m.ContentSize, CreatedAt: pg.TimeOrNull(m.CreatedAt),
		Labels: pg.StringsJSON(m.Labels), Annotations: pg.StringsJSON(m.Annotations),
		ConfigID: configID(m, blobs), Layers: layerIDs(m, blobs),
		Problems: strings.Join(storedProblems(m.Problems), pg.Separator),
	})
	if m.Body != nil {
		s.bodies = append(s.bodies, newBody{
			RepositoryID: repository, Digest: d, Body: m.Body, Config: configJSON(m.ConfigBody),
		})
	}
	if subject != nil {
		s.referrers = append(s.referrers, newReferrer{RepositoryID: repository, Digest: d, Subject: subject})
	}
	for i, e := range m.Entries {
		s.entries = append(s.entries, newEntry{
			RepositoryID: repository, Index: d, Position: int32(i), Digest: pg.DigestBytes(e.Digest),
			MediaTypeID: m.entryTypes[i], PlatformID: m.entryPlatforms[i],
			Size: e.Size, Annotations: pg.StringsJSON(e.Annotations),
		})
	}
	if ref := m.Labels[indexer.FlatpakRefLabel]; m.Kind == indexer.KindImage && indexer.IsFlatpakRef(ref) {
		s.flatpaks = append(s.flatpaks, newFlatpak{Repository: m.Repository, Ref: ref})
	}
}

func configID(m manifestRow, blobs map[digest.Digest]int64) *int64 {
	if m.Config == nil {
		return nil
	}
	id, ok := blobs[m.Config.Digest]
	if !ok {
		return nil
	}
	return &id
}

func layerIDs(m manifestRow, blobs map[digest.Digest]int64) string {
	layers := make([]string, len(m.Layers))
	for i, l := range m.Layers {
		layers[i] = strconv.FormatInt(blobs[l.Digest], 10)
	}
	return strings.Join(layers, pg.Separator)
}

// queue queues the statements that store the rows.
func (s *newRows) queue(batch *pgx.Batch) {
	batch.Queue(insertManifests, pg.Arrays(s.manifests)...)
	if len(s.bodies) > 0 {
		batch.Queue(insertBodies, pg.Arrays(s.bodies)...)
	}
	if len(s.referrers) > 0 {
		batch.Queue(insertReferrers, pg.Arrays(s.referrers)...)
	}
	if len(s.entries) > 0 {
		batch.Queue(insertEntries, pg.Arrays(s.entries)...)
	}
	queueFlatpaks(batch, s.flatpaks)
}

var (
	insertManifests = `
		INSERT INTO manifest (repository_id, digest, media_type_id, artifact_type_id, kind, platform_id, size, content_size,
			created_at, labels, annotations, subject, config_id, layer_ids, problems)
		SELECT repository_id, digest, media_type_id, artifact_type_id, kind, platform_id, size, content_size, created_at,
			labels::jsonb, annotations::jsonb, subject, config_id, string_to_array(layers, chr(31))::bigint[],
			string_to_array(problems, chr(31))
		FROM ` + pg.Unnest[newManifest]("read", 1) + `
		ON CONFLICT (repository_id, digest) DO UPDATE SET
			(media_type_id, artifact_type_id, kind, platform_id, size, content_size, created_at, labels, annotations, subject,
				config_id, layer_ids, problems) =
			(excluded.media_type_id, excluded.artifact_type_id, excluded.kind, excluded.platform_id, excluded.size,
				excluded.content_size, excluded.created_at, excluded.labels, excluded.annotations, excluded.subject,
				excluded.config_id, excluded.layer_ids, excluded.problems)`
	insertBodies = `
		INSERT INTO manifest_body (repository_id, manifest_id, body, config)
		SELECT m.repository_id, m.id, read.body, read.config::jsonb
		FROM ` + pg.Unnest[newBody]("read", 1) + `
		JOIN manifest m ON m.repository_id = read.repository_id AND m.digest = read.digest
		ON CONFLICT (repository_id, manifest_id) DO UPDATE SET body = excluded.body, config = excluded.config`
	insertReferrers = `
		INSERT INTO referrer (repository_id, subject, manifest_id)
		SELECT m.repository_id, m.subject, m.id
		FROM ` + pg.Unnest[newReferrer]("read", 1) + `
		JOIN manifest m ON m.repository_id = read.repository_id AND m.digest = read.digest
		ON CONFLICT DO NOTHING`
	insertEntries = `
		INSERT INTO index_entry (repository_id, manifest_id, position, digest, media_type_id, platform_id, size, annotations)
		SELECT m.repository_id, m.id, read.position, read.digest, read.media_type_id, read.platform_id, read.size, read.annotations::jsonb
		FROM ` + pg.Unnest[newEntry]("read", 1) + `
		JOIN manifest m ON m.repository_id = read.repository_id AND m.digest = read.index
		ON CONFLICT DO NOTHING`
)

type newBlob struct {
	Digest []byte
	Size   int64
}

// insertBlobs inserts missing rows only: ON CONFLICT alone would use a number of the
// sequence for each blob of each manifest.
var insertBlobs = `
	INSERT INTO blob (digest, size)
	SELECT digest, size FROM ` + pg.Unnest[newBlob]("wanted", 1) + `
	WHERE NOT EXISTS (SELECT FROM blob b WHERE b.digest = wanted.digest)
	ORDER BY digest ON CONFLICT DO NOTHING`

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
	var blobs []newBlob
	for d, size := range sizes {
		blobs = append(blobs, newBlob{pg.DigestBytes(d), size})
	}
	slices.SortFunc(blobs, func(a, b newBlob) int { return bytes.Compare(a.Digest, b.Digest) })
	arrays := pg.Arrays(blobs)
	type row struct {
		ID     int64
		Digest []byte
	}
	var found []row
	batch := &pgx.Batch{}
	batch.Queue(insertBlobs, arrays...)
	pg.Queue(batch, &found, "SELECT id, digest FROM blob WHERE digest = ANY($1)", arrays[0])
	err := a.send(ctx, batch)
	ids := map[digest.Digest]int64{}
	for _, b := range found {
		ids[pg.DigestFrom(b.Digest)] = b.ID
	}
	return ids, err
}

// A removedManifest is what a removed manifest referred to: its subjects, and the manifests that
// it listed.
type removedManifest struct{ Subjects, Listed [][]byte }

// removeManifests removes manifests that the registry no longer has. If a tag in the
// book still shows the manifest, the manifest stays for now: the tag is enqueued,
// and the manifest is read again after it. A tag that is already enqueued is not
// enqueued again, because that would reset the attempts of a tag that cannot be
// read, and it would never be given up. A tag that was given up no longer shows the
// manifest.
func (a *application) removeManifests(ctx context.Context, findings []indexer.Finding) error {
	const unshow = `
		WITH unshown AS (
			UPDATE tag t SET manifest_id = NULL FROM manifest m WHERE (m.repository_id, m.digest) = ($1, $2)
				AND t.repository_id = $1 AND t.manifest_id = m.id AND t.problem IS NOT NULL RETURNING t.name
		), unattached AS (
			DELETE FROM referrer WHERE repository_id = $1 AND tag IN (SELECT name FROM unshown)
		)
		SELECT name FROM unshown`
	const remove = `
		WITH gone AS (
			DELETE FROM manifest m WHERE (repository_id, digest) = ($1, $2)
				AND NOT EXISTS (SELECT FROM tag t WHERE t.repository_id = $1 AND t.manifest_id = m.id) RETURNING id, config_id, layer_ids
		), loosened AS (` + loosened + `)
		SELECT ARRAY(
			SELECT f.subject FROM referrer f WHERE f.repository_id = $1 AND f.manifest_id = gone.id
			UNION SELECT ` + search.Attests + ` FROM index_entry e WHERE e.repository_id = $1 AND e.manifest_id = gone.id AND ` + search.Attests + ` IS NOT NULL
		) AS subjects, ARRAY(
			SELECT DISTINCT e.digest FROM index_entry e WHERE e.repository_id = $1 AND e.manifest_id = gone.id
		) AS listed FROM gone`
	const tags = `
		SELECT t.name, EXISTS (SELECT FROM task k WHERE (k.repository, k.reference) = ($3, t.name) AND k.given_up_at IS NULL) AS asked
		FROM tag t JOIN manifest m ON m.repository_id = t.repository_id AND m.id = t.manifest_id
		WHERE (m.repository_id, m.digest) = ($1, $2)`
	for _, f := range findings {
		d := f.Task.Reference.Digest()
		repository, known := a.repositories[f.Task.Repository]
		if f.Outcome != indexer.Gone || d == "" || !known {
			continue
		}
		unshown, err := pg.Column[string](ctx, a.tx, unshow, repository, pg.DigestBytes(d))
		if err != nil {
			return err
		}
		for _, tag := range unshown {
			a.changed[repository] = true
			a.touched.Change(repository, pg.DigestBytes(indexer.SubjectOfTag(tag)))
		}
		a.touched.Add(repository, pg.DigestBytes(d))
		removed, err := pg.Collect[removedManifest](ctx, a.tx, remove, repository, pg.DigestBytes(d), f.Task.Repository)
		if err != nil {
			return err
		}
		for _, r := range removed {
			a.changed[repository] = true // its image is removed too
			for _, digest := range append(r.Subjects, pg.DigestBytes(d)) {
				a.touched.Change(repository, digest)
			}
			for _, digest := range r.Listed { // its tag may have gone in this transaction too
				a.touched.Add(repository, digest)
			}
		}
		if len(removed) > 0 {
			a.outgoing.add(deliver.NewEvent(deliver.Deleted, deliver.Data{Repository: f.Task.Repository, Digest: d}))
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
			ask := indexer.Ask{Repository: t.Repository, Reference: indexer.TagOrDigest(tag.Name), Priority: t.Priority}
			a.asks = append(a.asks, ask)
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
