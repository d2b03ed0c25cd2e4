package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/retention"
)

// maxPlanRows is the most tags and manifests of a repository for which rules decide: 500,000,
// some 300 MB of memory. A larger repository is left out of plans.
const maxPlanRows = 500_000

// A planBook reads what rules decide about, of some repositories in one transaction.
type planBook struct {
	tx     pgx.Tx
	rules  []retention.Rule // of all these repositories
	scans  []scanSpan       // that ended, in order of their ends
	pulls  pullBook
	now    time.Time // of the transaction
	labels bool      // whether a rule asks about labels
	left   bool      // whether a rule selects manifests without a tag
	pushed bool      // whether a rule asks when something was pushed
}

// A scanSpan is when a scan without errors began and ended.
type scanSpan struct{ StartedAt, FinishedAt time.Time }

// A pullBook says whether pulls are counted.
type pullBook struct {
	since time.Time // when counting began; zero: it did not
	until time.Time // pulls after it may not be counted yet
}

// A planned is a repository that rules decide about, or the reason why they do not.
type planned struct {
	retention.Repository
	leftOut string
}

// newPlanBook returns a planBook of a transaction.
func newPlanBook(ctx context.Context, tx pgx.Tx, rules []retention.Rule) (*planBook, error) {
	b := &planBook{tx: tx, rules: rules, pushed: retention.NeedsPushes(rules)}
	for _, r := range rules {
		b.labels = b.labels || r.Conditions.Label != ""
		b.left = b.left || r.Conditions.Untagged
	}
	var err error
	const scans = `
		SELECT started_at, finished_at FROM scan
		WHERE started_at IS NOT NULL AND finished_at IS NOT NULL AND error IS NULL ORDER BY finished_at`
	if b.scans, err = pg.Collect[scanSpan](ctx, tx, scans); err != nil {
		return nil, err
	}
	if err := tx.QueryRow(ctx, "SELECT now()").Scan(&b.now); err != nil {
		return nil, err
	}
	return b, b.readCounting(ctx)
}

// readCounting reads since when pulls are counted, and until when.
func (b *planBook) readCounting(ctx context.Context) error {
	const q = `
		SELECT counted_since AS since, LEAST(now(), (SELECT min(received_at) FROM usage_pending)) AS until FROM usage_state`
	type row struct{ Since, Until time.Time }
	rows, err := pg.Collect[row](ctx, b.tx, q)
	if err == nil && len(rows) == 1 {
		b.pulls.since, b.pulls.until = rows[0].Since, rows[0].Until
	}
	return err
}

// pushSpan returns when a tag came to show what it shows. An event tells at once; a scan only
// that it was after the scan before.
func (b *planBook) pushSpan(movedAt time.Time, byEvent bool) retention.Span {
	if byEvent {
		return retention.At(movedAt)
	}
	span := retention.Until(movedAt)
	for i := len(b.scans) - 1; i >= 0; i-- {
		if !b.scans[i].FinishedAt.After(movedAt) {
			span.From = b.scans[i].StartedAt
			break
		}
	}
	return span
}

// pullSpan returns when something was last pulled, if the last counted pull was at a time; zero:
// none was counted.
func (b *planBook) pullSpan(at time.Time) retention.Span {
	switch {
	case b.pulls.since.IsZero():
		return retention.Until(b.now)
	case at.IsZero():
		return retention.Until(b.pulls.since)
	}
	return retention.At(at)
}

// A planTag is a tag as planBook reads it.
type planTag struct {
	RepositoryID int32
	Name         string
	Digest       []byte
	Problem      *string
	MovedAt      time.Time
	ByEvent      bool
}

// A planManifest is a manifest as planBook reads it.
type planManifest struct {
	RepositoryID int32
	Digest       []byte
	Size         int64
	SeenAt       time.Time
	Subject      []byte
	Labels       []byte
	Troubled     bool
	IsIndex      bool
	Children     [][]byte
	Body         []byte // of an index of which not all entries are rows
}

const planTags = `
	SELECT t.repository_id, t.name, m.digest, t.problem, t.moved_at, %s AS by_event
	FROM tag t JOIN repository r ON r.id = t.repository_id
	LEFT JOIN manifest m ON m.repository_id = t.repository_id AND m.id = t.manifest_id
	WHERE t.repository_id = ANY($1) ORDER BY t.repository_id, t.name`

// seenByEvent is an expression for whether an event told of the last move of a tag. Both times
// are that of the transaction that moved it.
const seenByEvent = `COALESCE((
	SELECT h.seen_by = 'event' FROM tag_history h
	WHERE h.repository = r.name AND h.tag = t.name AND h.seen_at = t.moved_at ORDER BY h.id DESC LIMIT 1), false)`

// planManifests reads manifests. Of an index with a problem, entries may have been left out: its
// bytes have them all.
const planManifests = `
	SELECT m.repository_id, m.digest, m.size + m.content_size AS size, m.seen_at, m.subject, %s AS labels,
		cardinality(m.problems) > 0 AS troubled, m.kind = 'index' AS is_index,
		CASE WHEN m.kind = 'index' THEN ARRAY(
			SELECT e.digest FROM index_entry e WHERE (e.repository_id, e.manifest_id) = (m.repository_id, m.id)) END AS children,
		CASE WHEN m.kind = 'index' AND cardinality(m.problems) > 0 THEN (
			SELECT b.body FROM manifest_body b WHERE (b.repository_id, b.manifest_id) = (m.repository_id, m.id)) END AS body
	FROM manifest m WHERE m.repository_id = ANY($1) ORDER BY m.repository_id, m.id`

// repositories reads repositories, by their ids and names.
func (b *planBook) repositories(ctx context.Context, ids []int32, names []string) ([]planned, error) {
	all := make([]planned, len(ids))
	at := make(map[int32]*planned, len(ids))
	byName := make(map[string]*planned, len(ids))
	for i := range ids {
		all[i].Name = names[i]
		at[ids[i]], byName[names[i]] = &all[i], &all[i]
	}
	if err := b.readTags(ctx, ids, at); err != nil {
		return nil, err
	}
	shown := map[string]bool{} // repository and digest
	for i := range all {
		for _, t := range all[i].Tags {
			shown[all[i].Name+" "+string(t.Digest)] = true
		}
	}
	if err := b.readManifests(ctx, ids, at); err != nil {
		return nil, err
	}
	if b.left {
		if err := b.readLeft(ctx, names, byName, shown); err != nil {
			return nil, err
		}
	}
	if err := b.readUses(ctx, names, byName); err != nil {
		return nil, err
	}
	if err := b.readProtections(ctx, names, byName); err != nil {
		return nil, err
	}
	if err := b.readPulls(ctx, names, byName); err != nil {
		return nil, err
	}
	return all, b.readTasks(ctx, names, byName)
}

func (b *planBook) readTags(ctx context.Context, ids []int32, at map[int32]*planned) error {
	byEvent := "false"
	if b.pushed {
		byEvent = seenByEvent
	}
	rows, err := pg.Collect[planTag](ctx, b.tx, fmt.Sprintf(planTags, byEvent), ids)
	for _, r := range rows {
		of := at[r.RepositoryID]
		if r.Problem != nil || r.Digest == nil {
			of.leftOut = fmt.Sprintf("its tag %s could not be read", r.Name)
		}
		of.Tags = append(of.Tags, retention.Tag{
			Name: r.Name, Digest: pg.DigestFrom(r.Digest), Pushed: b.pushSpan(r.MovedAt,
				r.ByEvent), Pulled: b.pullSpan(time.Time{}),
		})
	}
	return err
}

func (b *planBook) readManifests(ctx context.Context, ids []int32, at map[int32]*planned) error {
	labels := "NULL::jsonb"
	if b.labels {
		labels = "m.labels"
	}
	rows, err := pg.Collect[planManifest](ctx, b.tx, fmt.Sprintf(planManifests, labels), ids)
	for _, r := range rows {
		of := at[r.RepositoryID]
		m := retention.Manifest{
			Digest: pg.DigestFrom(r.Digest), Subject: pg.DigestFrom(r.Subject), Labels: pg.StringsFrom(r.Labels),
			NoLabels: r.Labels == nil &&
				r.Troubled, Pushed: retention.Until(r.SeenAt), Pulled: b.pullSpan(time.Time{}), Size: r.Size,
		}
		for _, child := range r.Children {
			m.Children = append(m.Children, pg.DigestFrom(child))
		}
		if r.IsIndex && r.Troubled {
			var whole bool
			if m.Children, whole = entriesIn(r.Body); !whole {
				of.leftOut = fmt.Sprintf("its index %s could not be read whole", m.Digest)
			}
		}
		of.Manifests = append(of.Manifests, m)
	}
	return err
}

// entriesIn returns what the bytes of an index list; false if they cannot be read.
func entriesIn(body []byte) (all []digest.Digest, ok bool) {
	var index struct {
		Manifests []struct{ Digest digest.Digest }
	}
	if err := json.Unmarshal(body, &index); err != nil {
		return nil, false
	}
	for _, m := range index.Manifests {
		if m.Digest.Validate() == nil {
			all = append(all, m.Digest)
		}
	}
	return all, true
}

// readLeft sets since when manifests without a tag have none: since their last tag left them.
func (b *planBook) readLeft(ctx context.Context, names []string, at map[string]*planned, shown map[string]bool) error {
	const q = `
		SELECT repository, from_digest AS digest, max(seen_at) AS at FROM tag_history
		WHERE repository = ANY($1) AND from_digest IS NOT NULL GROUP BY repository, from_digest`
	type row struct {
		Repository string
		Digest     []byte
		At         time.Time
	}
	rows, err := pg.Collect[row](ctx, b.tx, q, names)
	left := map[string]time.Time{}
	for _, r := range rows {
		left[r.Repository+" "+string(pg.DigestFrom(r.Digest))] = r.At
	}
	for name, of := range at {
		for i := range of.Manifests {
			m := &of.Manifests[i]
			k := name + " " + string(m.Digest)
			if at := left[k]; !shown[k] && at.After(m.Pushed.To) {
				m.Pushed = retention.At(at)
			}
		}
	}
	return err
}

// manifestsOf returns the manifests of repositories by name and digest.
func manifestsOf(at map[string]*planned) map[string]*retention.Manifest {
	all := map[string]*retention.Manifest{}
	for name, of := range at {
		for i := range of.Manifests {
			all[name+" "+string(of.Manifests[i].Digest)] = &of.Manifests[i]
		}
	}
	return all
}

// readUses marks what runs.
func (b *planBook) readUses(ctx context.Context, names []string, at map[string]*planned) error {
	const q = "SELECT DISTINCT repository, digest FROM in_use WHERE repository = ANY($1) AND expires_at > now()"
	type row struct {
		Repository string
		Digest     []byte
	}
	rows, err := pg.Collect[row](ctx, b.tx, q, names)
	if err != nil || len(rows) == 0 {
		return err
	}
	manifests := manifestsOf(at)
	for _, r := range rows {
		if m := manifests[r.Repository+" "+string(pg.DigestFrom(r.Digest))]; m != nil {
			m.InUse = true
		}
	}
	return nil
}

// readProtections marks protected tags, and leaves out frozen repositories.
func (b *planBook) readProtections(ctx context.Context, names []string, at map[string]*planned) error {
	all, err := protectionsOf(ctx, b.tx, names...)
	for _, name := range names {
		of := at[name]
		if p, frozen := all.Frozen(name); frozen {
			of.leftOut = p.Text()
		}
		for i := range of.Tags {
			if p, protected := all.Tag(name, of.Tags[i].Name); protected {
				of.Tags[i].Protected = p.Text()
			}
		}
	}
	return err
}

// A planPull says how often something was pulled, and when last.
type planPull struct {
	Repository, Tag string
	Digest          []byte
	Pulls           int64
	PulledAt        *time.Time
}

// planPulls reads pulls, also those that were received and are not yet counted. A client may
// look up a tag without a pull and then pull the manifest, so both count.
const planPulls = `
	SELECT u.name AS repository, t.tag, NULL::bytea AS digest, t.pulls, t.pulled_at
	FROM usage_repository u JOIN usage_tag t ON t.repository = u.id WHERE u.name = ANY($1)
	UNION ALL
	SELECT u.name, '', m.digest, m.pulls, m.pulled_at
	FROM usage_repository u JOIN usage_manifest m ON m.repository = u.id WHERE u.name = ANY($1)
	UNION ALL
	SELECT p.repository, p.tag, p.digest, sum(p.pulls)::bigint, max(p.at)
	FROM usage_pending p WHERE p.repository = ANY($1) AND p.pulls > 0 AND p.kind <> 4 GROUP BY p.repository, p.tag, p.digest`

// readPulls sets when tags and manifests were last pulled.
func (b *planBook) readPulls(ctx context.Context, names []string, at map[string]*planned) error {
	if b.pulls.since.IsZero() {
		return nil
	}
	rows, err := pg.Collect[planPull](ctx, b.tx, planPulls, names)
	if err != nil || len(rows) == 0 {
		return err
	}
	last, pulls := map[string]time.Time{}, map[string]int64{}
	add := func(k string, r planPull) {
		pulls[k] += r.Pulls
		if at := pg.TimeOrZero(r.PulledAt); at.After(last[k]) {
			last[k] = at
		}
	}
	for _, r := range rows {
		if r.Tag != "" {
			add(r.Repository+":"+r.Tag, r)
		}
		if r.Digest != nil {
			add(r.Repository+" "+string(pg.DigestFrom(r.Digest)), r)
		}
	}
	for name, of := range at {
		for i := range of.Manifests {
			k := name + " " + string(of.Manifests[i].Digest)
			of.Manifests[i].Pulls, of.Manifests[i].Pulled = pulls[k], b.pullSpan(last[k])
		}
		for i := range of.Tags {
			k, shown := name+":"+of.Tags[i].Name, name+" "+string(of.Tags[i].Digest)
			at := last[k]
			if last[shown].After(at) {
				at = last[shown]
			}
			of.Tags[i].Pulls, of.Tags[i].Pulled = pulls[k]+pulls[shown], b.pullSpan(at)
		}
	}
	return nil
}

// readTasks leaves out repositories that are not read whole.
func (b *planBook) readTasks(ctx context.Context, names []string, at map[string]*planned) error {
	const q = `
		SELECT DISTINCT ON (repository) repository, reference, given_up_at IS NOT NULL AS given_up FROM task
		WHERE repository = ANY($1) ORDER BY repository, given_up_at IS NULL`
	type row struct {
		Repository, Reference string
		GivenUp               bool
	}
	rows, err := pg.Collect[row](ctx, b.tx, q, names)
	for _, r := range rows {
		of := at[r.Repository]
		of.leftOut = fmt.Sprintf("%s waits to be read", r.Reference)
		if r.GivenUp {
			of.leftOut = fmt.Sprintf("%s could not be read", r.Reference)
		}
	}
	for _, of := range at {
		if n := len(of.Tags) + len(of.Manifests); of.leftOut == "" && n > maxPlanRows {
			of.leftOut = fmt.Sprintf("it has %d tags and manifests, more than %d", n, maxPlanRows)
		}
	}
	return err
}

// notes says what the rules ask about and is not known.
func (b *planBook) notes() (notes []string) {
	if b.pushed {
		notes = append(notes,
			"A tag counts as pushed when we were told or saw that it moved. For a tag that a scan found, the push was"+
				" between that scan and the one before; if that leaves a rule undecided, the tag stays.")
	}
	needs, within := retention.NeedsPulls(b.rules)
	since := b.pulls.since
	switch {
	case !needs:
	case since.IsZero():
		notes = append(notes, "Pulls are not counted, so rules about pulls keep everything that they might keep.")
	case within == 0 || since.After(b.now.Add(-within)):
		notes = append(notes,
			fmt.Sprintf("Pulls are counted since %s only, so rules that look further back keep everything that they"+
				" might keep.", since.UTC().Format("2006-01-02 15:04")))
	}
	return notes
}
