package postgres

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
)

// A View is one state of the book: a read-only transaction whose statements all see
// the same snapshot. It needs only the SELECT privilege, so it works on a standby
// and for a user who cannot write.
type View struct {
	*search.Reader
	tx        pg.Querier         // a connection in a transaction
	visible   indexer.Visibility // the repositories that the asker may see
	names     pg.Visible         // the same, for statements
	version   memory.Vector      // of this state; zero if there is none yet
	scannedAt *time.Time         // see Freshness
	copy      *keeper            // nil: searches use the database
}

// readTimeout limits each statement of a reader, and the wait for a connection: 5 s,
// fifty times what the slowest query should take with a million repositories. It
// keeps one client from holding a connection, or stopping the replay on a standby,
// for ever. If the context has an earlier deadline, that deadline limits all
// statements of the view together.
const readTimeout = 5 * time.Second

// cancelTime is how long before the deadline of the context the server ends a
// statement: 100 ms. A connection can be used again if the server ended the
// statement; it must be closed if the context ended it.
const cancelTime = 100 * time.Millisecond

// rollbackTimeout limits the rollback of a view, whose context may have ended: 1 s.
const rollbackTimeout = time.Second

const (
	beginView = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	// setView sets the settings of planOnce, a time limit in ms and an application name until
	// the view ends.
	setView = `
		SELECT set_config('statement_timeout', $1, true),
			set_config('application_name', COALESCE($2, current_setting('application_name')), true),
			set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true),
			set_config('jit', 'off', true)`
	// readView reads what nearly every view needs: the epoch, the shards of the catalogue
	// version, and the end of the last complete scan.
	readView = `
		SELECT (SELECT epoch FROM catalogue_epoch), (SELECT array_agg(v ORDER BY shard) FROM catalogue_version),
			(SELECT max(finished_at) FROM scan WHERE error IS NULL)`
)

// A view is tried at most viewTries times if its snapshot is lost. The pause is
// viewPause before the second try and twice that before the third. A standby cancels
// queries that block its replay, and then the replay takes milliseconds.
const (
	viewTries = 3
	viewPause = 20 * time.Millisecond
)

// View runs f on one state of the book, as the asker sees it. If that state is lost,
// View runs f again from the start on another state. That happens if a standby
// cancels the transaction, if the connection broke while it was idle, or if other views
// have brought the copy in memory far beyond the state. The last try does without the
// copy.
func (s *Store) View(ctx context.Context, asker indexer.Asker, f func(*View) error) error {
	for try := 1; ; try++ {
		copy := s.keeper
		if try == viewTries {
			copy = nil
		}
		err := s.view(ctx, asker, copy, f)
		switch past := errors.Is(err, memory.ErrPast); {
		case try == viewTries || !past && !pg.IsLost(err):
			return err
		case !past && wait(ctx, time.Duration(try)*viewPause) != nil:
			return err
		}
	}
}

func (s *Store) view(ctx context.Context, asker indexer.Asker, copy *keeper, f func(*View) error) error {
	visible := asker.Visibility()
	waiting, cancel := context.WithTimeout(ctx, readTimeout)
	conn, err := s.pool.Acquire(waiting)
	cancel()
	if err != nil {
		return pg.Wrap("view", err)
	}
	defer conn.Release()
	defer rollback(ctx, conn.Conn())
	v := &View{tx: conn.Conn(), visible: visible, names: pg.VisibleOf(visible), copy: copy}
	if err := v.begin(ctx, s.session(ctx)); err != nil {
		return wrapSlow(ctx, "view", pg.Wrap("begin", err))
	}
	v.Reader = search.New(v.tx, asker, s.config.Official, v.state)
	err = f(v)
	return wrapSlow(ctx, "view", err)
}

// begin begins the transaction of v and reads its version, in one round trip. session is
// the application name until the transaction ends, nil for that of the connection.
func (v *View) begin(ctx context.Context, session *string) error {
	limit := readTimeout
	if end, ok := ctx.Deadline(); ok {
		limit = max(min(limit, time.Until(end)-cancelTime), time.Millisecond)
	}
	batch := &pgx.Batch{}
	batch.Queue(beginView)
	batch.Queue(setView, strconv.FormatInt(limit.Milliseconds(), 10), session)
	batch.Queue(readView).QueryRow(func(row pgx.Row) error {
		var epoch *string
		err := row.Scan(&epoch, &v.version.Shards, &v.scannedAt)
		if epoch != nil {
			v.version.Epoch = *epoch
		}
		return err
	})
	return v.tx.SendBatch(ctx, batch).Close()
}

// wrapSlow returns ErrTooSlow for errors of a view whose deadline has passed.
func wrapSlow(ctx context.Context, what string, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && !errors.Is(err, indexer.ErrTooSlow) {
		return fmt.Errorf("%s: %w: %w", what, err, indexer.ErrTooSlow)
	}
	return err
}

// rollback ends the transaction of a connection even if its context has ended, so that
// the connection can be used again.
func rollback(ctx context.Context, conn *pgx.Conn) {
	if conn.PgConn().TxStatus() == idle {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, _ = conn.Exec(ctx, "ROLLBACK") // if it fails, the connection is closed
}

// idle is the status of a connection without a transaction.
const idle = 'I'

// Version returns the catalogue version of this state: the sum of the shards, and a
// hash of all of them. A commit locks its shard, so the commits of one shard have
// one order, which is the same on every server; therefore equal shards are equal
// states. Equal sums are not enough: two transactions that commit at the same moment
// may become visible in one order on the primary, and in another on a standby, which
// follows the WAL.
//
// It returns ErrUnavailable if there is no version: a backup without the derived tables
// was restored, and no writer has led since.
func (v *View) Version(context.Context) (indexer.Version, error) {
	vector, err := v.vector()
	if err != nil {
		return indexer.Version{}, err
	}
	return versionOf(vector), nil
}

// Freshness returns the catalogue version of this state and the time when the last
// complete scan ended.
func (v *View) Freshness(ctx context.Context) (indexer.Freshness, error) {
	version, err := v.Version(ctx)
	return indexer.Freshness{Version: version, ScannedAt: pg.TimeOrZero(v.scannedAt)}, err
}

// vector returns the vector of this state.
func (v *View) vector() (memory.Vector, error) {
	if v.version.Epoch == "" || len(v.version.Shards) == 0 {
		return v.version, fmt.Errorf("no catalogue version yet: %w", indexer.ErrUnavailable)
	}
	return v.version, nil
}

func versionOf(v memory.Vector) indexer.Version {
	version := indexer.Version{Epoch: v.Epoch}
	state := fnv.New64a()
	for _, n := range v.Shards {
		version.Number += n
		state.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
	}
	version.State = state.Sum64()
	return version
}

// Repositories returns at most limit repositories that have a tag, by name, after
// the given name.
func (v *View) Repositories(ctx context.Context, after string, limit int) ([]indexer.Repository, error) {
	page := v.names.EachSpan(sq.Expr("SELECT "+search.RepositoryColumns+` FROM repository_search s
		WHERE s.name > ? AND ? ORDER BY s.name LIMIT ?`, indexer.CleanText(after), v.names.InSpan("s.name"), limit))
	rows, err := pg.Stated[search.RepositoryRow](ctx, v.tx, "SELECT * FROM (?) AS page ORDER BY name LIMIT ?", page, limit)
	var repositories []indexer.Repository
	for _, r := range rows {
		repositories = append(repositories, r.Repository())
	}
	return repositories, pg.Wrap("repositories", err)
}

// Repository returns a repository, or ErrNotFound if the book does not hold it.
func (v *View) Repository(ctx context.Context, name string) (indexer.Repository, error) {
	if !v.visible.Sees(name) {
		return indexer.Repository{}, pg.Wrap(fmt.Sprintf("repository %q", name), indexer.ErrNotFound)
	}
	const q = `
		SELECT r.name, COALESCE(s.title, '') AS title, COALESCE(s.description, '') AS description, COALESCE(s.tags, 0) AS tags,
			COALESCE(s.leading_tag, '') AS leading_tag, COALESCE(s.own_tags, 0) AS own_tags, COALESCE(s.signature_tags, 0) AS signature_tags,
			COALESCE(s.sbom_tags, 0) AS sbom_tags, COALESCE(s.attestation_tags, 0) AS attestation_tags,
			r.updated_at, (SELECT count(*) FROM manifest m WHERE m.repository_id = r.id)::int AS manifests
		FROM repository r LEFT JOIN repository_search s ON s.repository_id = r.id WHERE r.name = $1`
	type row struct {
		search.RepositoryRow
		Manifests int
	}
	rows, err := pg.Collect[row](ctx, v.tx, q, name)
	if err == nil && (len(rows) == 0 || rows[0].Tags == 0 && rows[0].Manifests == 0) {
		err = indexer.ErrNotFound
	}
	if err != nil {
		return indexer.Repository{}, pg.Wrap(fmt.Sprintf("repository %q", name), err)
	}
	r := rows[0].Repository()
	r.Manifests = rows[0].Manifests
	return r, nil
}

// Tags returns at most limit tags after the given name, in bytewise order of name.
// The slice is empty if there are none.
func (v *View) Tags(ctx context.Context, repository, after string, limit int) ([]indexer.Tag, error) {
	if !v.visible.Sees(repository) {
		return nil, nil
	}
	q := `
		SELECT t.name, m.digest, COALESCE(t.problem, '') AS tag_problem, t.moved_at, ` + search.StoredHas("t.repository_id", "t.manifest_id") + ` AS has, ` + shownColumns + `
		FROM ( -- the page first: joined before, all tags behind it would be
			SELECT t.repository_id, t.name, t.manifest_id, t.problem, t.moved_at FROM repository r JOIN tag t ON t.repository_id = r.id
			WHERE r.name = $1 AND t.name > $2 ORDER BY t.name LIMIT $3
		) t
		LEFT JOIN manifest m ON m.repository_id = t.repository_id AND m.id = t.manifest_id` + shownJoins + `
		ORDER BY t.name`
	tags, err := v.shown(ctx, q, indexer.CleanText(repository), indexer.CleanText(after), limit)
	return tags, pg.Wrap(fmt.Sprintf("tags of %q", repository), err)
}

// What a tag shows: columns of manifest m, which may be missing. For an image index,
// readListed sets the size and platforms.
const (
	shownColumns = `
		COALESCE(mt.name, '') AS media_type, COALESCE(m.kind, 'unknown') AS kind, m.created_at, COALESCE(m.problems[1], '') AS problem,
		m.repository_id, m.id AS manifest_id, COALESCE(m.content_size, 0)::bigint AS size,
		COALESCE((SELECT jsonb_build_array(jsonb_build_array(p.os, p.architecture, p.variant)) FROM platform p WHERE p.id = m.platform_id), '[]') AS platforms`
	shownJoins = `
		LEFT JOIN media_type mt ON mt.id = m.media_type_id`
)

// maxShownPlatforms is the maximum number of platforms shown for an image index: 50.
// In public registries indexes have at most about 20, and a page has 1,000 tags,
// each of which may show another index of 1,000 entries.
const maxShownPlatforms = 50

type shownRow struct {
	Name, TagProblem, MediaType, Kind, Problem string
	Digest                                     []byte
	RepositoryID                               *int32
	ManifestID                                 *int64
	CreatedAt                                  *time.Time
	MovedAt                                    *time.Time // null in the past, if no move until then is kept
	Size                                       int64
	Platforms                                  []byte
	Has                                        []indexer.ReferrerKind
}

// shown returns the tags that a statement selects with shownColumns.
func (v *View) shown(ctx context.Context, sql string, args ...any) ([]indexer.Tag, error) {
	rows, err := pg.Collect[shownRow](ctx, v.tx, sql, args...)
	if err != nil {
		return nil, err
	}
	indexes := map[pg.ManifestID]listed{}
	for _, r := range rows {
		if r.Kind == string(indexer.KindIndex) {
			indexes[pg.ManifestID{Repository: *r.RepositoryID, ID: *r.ManifestID}] = listed{}
		}
	}
	if err := v.readListed(ctx, indexes); err != nil {
		return nil, err
	}
	var tags []indexer.Tag
	for _, r := range rows {
		if r.Kind == string(indexer.KindIndex) {
			l := indexes[pg.ManifestID{Repository: *r.RepositoryID, ID: *r.ManifestID}]
			r.Size, r.Platforms = l.size, l.platforms
		}
		tags = append(tags, r.tag())
	}
	return tags, nil
}

// listed is the size and the platforms of an image index, from its entries.
type listed struct {
	size      int64
	platforms []byte
}

// listedIndexes returns the size and the platforms of indexes. If a tag shows the index
// now, its search row has the size; otherwise the sizes of its entries are added up.
var listedIndexes = `
	SELECT w.repository_id, w.id,
		COALESCE((SELECT s.size FROM image_search s WHERE s.repository_id = w.repository_id AND s.manifest_id = w.id), (
			SELECT ` + pg.BoundedSum("sum(c.content_size)") + ` FROM (
				SELECT DISTINCT e.digest FROM index_entry e WHERE e.repository_id = w.repository_id AND e.manifest_id = w.id OFFSET 0
			) e JOIN manifest c ON c.repository_id = w.repository_id AND c.digest = e.digest), 0) AS size,
		COALESCE((SELECT jsonb_agg(jsonb_build_array(p.os, p.architecture, p.variant) ORDER BY e.position) FROM (
			SELECT e.platform_id, e.position FROM index_entry e
			WHERE e.repository_id = w.repository_id AND e.manifest_id = w.id AND e.platform_id IS NOT NULL ORDER BY e.position LIMIT $3
		) e JOIN platform p ON p.id = e.platform_id), '[]') AS platforms
	FROM ` + pg.Unnest[pg.ManifestID]("w", 1)

// readListed sets the values of indexes. It reads each index once, even if many tags
// show it.
func (v *View) readListed(ctx context.Context, indexes map[pg.ManifestID]listed) error {
	if len(indexes) == 0 {
		return nil
	}
	wanted := pg.Arrays(pg.SortedManifests(maps.Keys(indexes)))
	rows, err := v.tx.Query(ctx, listedIndexes, append(wanted, maxShownPlatforms)...)
	if err != nil {
		return err
	}
	var id pg.ManifestID
	var l listed
	_, err = pgx.ForEachRow(rows, []any{&id.Repository, &id.ID, &l.size, &l.platforms}, func() error {
		l.platforms = slices.Clone(l.platforms)
		indexes[id] = l
		return nil
	})
	return err
}

func (r shownRow) tag() indexer.Tag {
	return indexer.Tag{
		Name: r.Name, Digest: pg.DigestFrom(r.Digest), MediaType: r.MediaType, Kind: indexer.Kind(r.Kind),
		Platforms: platformsFrom(r.Platforms), Size: r.Size,
		CreatedAt: pg.TimeOrZero(r.CreatedAt), MovedAt: pg.TimeOrZero(r.MovedAt),
		Problem: cmp.Or(indexer.StoredReason(r.TagProblem), r.Problem), Has: r.Has,
	}
}

// platformsFrom parses [[os, architecture, variant], ...].
func platformsFrom(raw []byte) []indexer.Platform {
	var triples [][3]string
	if err := json.Unmarshal(raw, &triples); err != nil {
		return nil // not possible: readListed or shownColumns builds it
	}
	var platforms []indexer.Platform
	for _, t := range triples {
		platforms = append(platforms, indexer.Platform{OS: t[0], Architecture: t[1], Variant: t[2]})
	}
	return platforms
}

// TagsOf returns the names of the tags that show a digest, sorted.
func (v *View) TagsOf(ctx context.Context, repository string, d digest.Digest) ([]string, error) {
	if !v.visible.Sees(repository) {
		return nil, nil
	}
	const q = `
		SELECT t.name FROM repository r
		JOIN manifest m ON m.repository_id = r.id AND m.digest = $2
		JOIN tag t ON t.repository_id = r.id AND t.manifest_id = m.id
		WHERE r.name = $1 ORDER BY t.name`
	rows, err := v.tx.Query(ctx, q, repository, pg.DigestBytes(d))
	if err != nil {
		return nil, pg.Wrap("tags of "+d.String(), err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return names, pg.Wrap("tags of "+d.String(), err)
}

// Manifest returns the complete manifest that a tag or digest names. It returns
// ErrNotFound if the book does not hold it.
func (v *View) Manifest(ctx context.Context, ref indexer.Reference) (indexer.Manifest, error) {
	row, err := v.manifestRow(ctx, ref)
	if err != nil {
		return indexer.Manifest{}, pg.Wrap(fmt.Sprintf("manifest %q", ref), err)
	}
	m := row.manifest(ref.Repository)
	readBody(&m)
	m.Entries, err = v.entries(ctx, row.RepositoryID, row.ID)
	return m, pg.Wrap(fmt.Sprintf("manifest %q", ref), err)
}

type storedManifest struct {
	RepositoryID                  int32
	ID                            int64
	Digest, Subject               []byte
	MediaType, ArtifactType, Kind string
	OS, Architecture, Variant     string
	Size, ContentSize             int64
	CreatedAt                     *time.Time
	SeenAt                        time.Time
	Labels, Annotations           []byte
	Problems                      []string
	Has                           []indexer.ReferrerKind
	Body, Config                  []byte
}

func (v *View) manifestRow(ctx context.Context, ref indexer.Reference) (storedManifest, error) {
	if !v.visible.Sees(ref.Repository) {
		return storedManifest{}, indexer.ErrNotFound
	}
	sel := pg.Builder.Select("m.repository_id", "m.id", "m.digest", "m.subject", "mt.name AS media_type",
		"COALESCE(at.name, '') AS artifact_type", "m.kind", "COALESCE(p.os, '') AS os",
		"COALESCE(p.architecture, '') AS architecture", "COALESCE(p.variant, '') AS variant", "m.size", "m.content_size",
		"m.created_at", "m.seen_at", "m.labels", "m.annotations", "m.problems", "b.body", "b.config",
		"NULLIF(COALESCE("+search.StoredHas("m.repository_id", "m.id")+", "+
			"ARRAY(SELECT kind FROM ("+search.Has("m")+") AS had (kind) ORDER BY 1)), '{}') AS has").
		From("repository r").
		Join("manifest m ON m.repository_id = r.id").
		Join("media_type mt ON mt.id = m.media_type_id").
		LeftJoin("media_type at ON at.id = m.artifact_type_id").
		LeftJoin("platform p ON p.id = m.platform_id").
		LeftJoin("manifest_body b ON b.repository_id = m.repository_id AND b.manifest_id = m.id").
		Where(sq.Eq{"r.name": ref.Repository})
	if ref.Digest != "" {
		sel = sel.Where("m.digest = ?", pg.DigestBytes(ref.Digest))
	} else {
		sel = sel.Join("tag t ON t.repository_id = r.id AND t.manifest_id = m.id").Where(sq.Eq{"t.name": ref.Tag})
	}
	rows, err := pg.Selected[storedManifest](ctx, v.tx, sel)
	if err == nil && len(rows) == 0 {
		err = indexer.ErrNotFound
	}
	if err != nil {
		return storedManifest{}, err
	}
	return rows[0], nil
}

func (r storedManifest) manifest(repository string) indexer.Manifest {
	return indexer.Manifest{
		Repository: repository, Digest: pg.DigestFrom(r.Digest), MediaType: r.MediaType, ArtifactType: r.ArtifactType,
		Kind: indexer.Kind(r.Kind), Platform: indexer.Platform{OS: r.OS, Architecture: r.Architecture, Variant: r.Variant},
		Size: r.Size, ContentSize: r.ContentSize, CreatedAt: pg.TimeOrZero(r.CreatedAt), SeenAt: r.SeenAt,
		Labels: pg.StringsFrom(r.Labels), Annotations: pg.StringsFrom(r.Annotations), Subject: pg.DigestFrom(r.Subject),
		Problems: r.Problems, Has: r.Has, Body: r.Body, ConfigBody: r.Config,
	}
}

// readBody sets the fields that have no column from the stored bytes: the config and
// layer descriptors.
func readBody(m *indexer.Manifest) {
	var body struct {
		Config *ocispec.Descriptor
		Layers []ocispec.Descriptor
	}
	var typeError *json.UnmarshalTypeError
	err := json.Unmarshal(m.Body, &body)
	if err != nil && !errors.As(err, &typeError) {
		return // reported in Problems
	}
	if body.Config != nil && body.Config.Digest.Validate() == nil {
		m.Config = body.Config
	}
	for _, l := range body.Layers[:min(len(body.Layers), indexer.MaxEntries)] { // reported in Problems
		if l.Digest.Validate() == nil {
			l.Size = max(l.Size, 0)
			m.Layers = append(m.Layers, l)
		}
	}
}

func (v *View) entries(ctx context.Context, repository int32, manifest int64) ([]indexer.Entry, error) {
	const q = `
		SELECT e.digest, mt.name AS media_type, e.size, e.annotations, m.id IS NOT NULL AS present,
			COALESCE(p.os, '') AS os, COALESCE(p.architecture, '') AS architecture, COALESCE(p.variant, '') AS variant
		FROM index_entry e
		JOIN media_type mt ON mt.id = e.media_type_id
		LEFT JOIN platform p ON p.id = e.platform_id
		LEFT JOIN manifest m ON m.repository_id = e.repository_id AND m.digest = e.digest
		WHERE (e.repository_id, e.manifest_id) = ($1, $2) ORDER BY e.position`
	type row struct {
		Digest                               []byte
		MediaType, OS, Architecture, Variant string
		Size                                 int64
		Annotations                          []byte
		Present                              bool
	}
	rows, err := pg.Collect[row](ctx, v.tx, q, repository, manifest)
	var entries []indexer.Entry
	for _, r := range rows {
		entries = append(entries, indexer.Entry{
			Digest: pg.DigestFrom(r.Digest), MediaType: r.MediaType, Size: r.Size, Annotations: pg.StringsFrom(r.Annotations),
			Platform: indexer.Platform{OS: r.OS, Architecture: r.Architecture, Variant: r.Variant}, Present: r.Present,
		})
	}
	return entries, err
}

// Status returns how closely the book follows the registry. For an asker who does not
// see every repository it counts the tasks of those that the asker sees. Of scans, it
// then tells when they were, but no number and no problem: these are about all
// repositories.
func (v *View) Status(ctx context.Context) (indexer.Status, error) {
	var status indexer.Status
	var err error
	if status.Version, err = v.Version(ctx); err != nil {
		return status, err
	}
	const last = "WHERE finished_at IS NOT NULL AND error IS NULL ORDER BY finished_at DESC LIMIT 1"
	if status.LastScan, err = v.scan(ctx, last); err != nil {
		return status, err
	}
	const running = "WHERE started_at IS NOT NULL AND finished_at IS NULL ORDER BY id LIMIT 1"
	if status.Running, err = v.scan(ctx, running); err != nil {
		return status, err
	}
	if status.Waiting, err = v.scan(ctx, "WHERE started_at IS NULL AND finished_at IS NULL LIMIT 1"); err != nil {
		return status, err
	}
	if status.Instance, status.InstanceSince, err = v.instance(ctx); err != nil {
		return status, err
	}
	if status.TasksDue, status.OldestDue, status.GivenUp, err = backlog(ctx, v.tx, v.names); err != nil {
		return status, err
	}
	if v.visible.All() {
		if status.Webhooks, err = webhookStatus(ctx, v.tx); err != nil {
			return status, err
		}
	}
	status.Failures, err = v.failures(ctx)
	return status, err
}

// scan returns the scan that a constant clause selects, nil if there is none.
func (v *View) scan(ctx context.Context, clause string) (*indexer.Scan, error) {
	s, err := oneScan(ctx, v.tx, clause)
	if errors.Is(err, indexer.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, pg.Wrap("scan", err)
	}
	if !v.visible.All() {
		s = indexer.Scan{ID: s.ID, Reason: s.Reason, AskedAt: s.AskedAt, StartedAt: s.StartedAt, FinishedAt: s.FinishedAt}
	}
	return &s, nil
}

// instance returns the registry process whose first event came last, "" if there is
// none. The table has one row for each restart within half a year.
func (v *View) instance(ctx context.Context) (id string, since time.Time, err error) {
	const q = "SELECT id, first_seen_at FROM registry_instance ORDER BY first_seen_at DESC LIMIT 1"
	err = v.tx.QueryRow(ctx, q).Scan(&id, &since)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", time.Time{}, nil
	}
	return id, since, pg.Wrap("registry instance", err)
}

// maxFailures is the maximum number of failures that Status lists: 100. GivenUp
// counts all tasks that were given up.
const maxFailures = 100

func (v *View) failures(ctx context.Context) ([]indexer.TaskFailure, error) {
	const q = `
		SELECT repository, reference, attempts, error, given_up_at IS NOT NULL AS given_up FROM (?) AS task
		WHERE error IS NOT NULL ORDER BY given_up_at DESC NULLS LAST, id DESC LIMIT ?`
	rows, err := pg.Stated[indexer.TaskFailure](ctx, v.tx, q, tasksIn(v.names), maxFailures)
	for i := range rows {
		rows[i].Error = indexer.StoredReason(rows[i].Error)
	}
	return rows, pg.Wrap("failures", err)
}
