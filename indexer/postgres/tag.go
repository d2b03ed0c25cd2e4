package postgres

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A tagRow is a tag as stored in the book.
type tagRow struct {
	RepositoryID int32
	Name         string
	ManifestID   *int64
	Digest       []byte
	Problem      *string
}

type tagKey struct {
	RepositoryID int32
	Name         string
}

// moveTags updates the tags of the findings to what the registry shows. Tags that
// are up to date are not written.
func (a *application) moveTags(ctx context.Context, findings []indexer.Finding) error {
	current, err := a.currentTags(ctx, findings)
	if err != nil {
		return err
	}
	var moves moves
	for _, f := range sortedTags(findings) {
		repository, known := a.repositories[f.Task.Repository]
		if !known {
			continue // nothing was found in it, and the book does not hold it
		}
		now, exists := current[tagKey{repository, f.Task.Reference.Tag()}]
		a.leave(f, now)
		if moves.add(repository, f, now, exists) {
			a.changed[repository] = true
			a.touched.Add(repository, now.Digest)
			a.touched.Add(repository, pg.DigestBytes(f.Digest))
			a.touched.Change(repository, pg.DigestBytes(indexer.SubjectOfTag(f.Task.Reference.Tag())))
			a.touched.Tag(repository, f.Task.Reference.Tag())
		}
	}
	if moves.batch.Len() == 0 && len(moves.set) == 0 && len(moves.history) == 0 {
		return nil
	}
	moves.queueAll()
	err = a.send(ctx, &moves.batch)
	a.moved = len(moves.recorded) > 0
	for _, m := range moves.recorded {
		a.outgoing.add(m.event()) // nothing, if no webhook hears of it
	}
	if err == nil {
		err = a.guard(ctx, &moves)
	}
	return err
}

// leave enqueues the manifests that a tag does not show: the one that it showed
// before, and those that were read while it moved. They may have been deleted
// meanwhile: if a deletion was handled before its manifest was stored, it removed
// nothing, and nothing else would cause another read.
func (a *application) leave(f indexer.Finding, was tagRow) {
	left := []digest.Digest{pg.DigestFrom(was.Digest)}
	for _, m := range f.Manifests {
		left = append(left, m.Digest)
	}
	for _, d := range left {
		if d != "" && d != f.Digest && f.Outcome != indexer.Broken {
			a.left = append(a.left, indexer.Ask{
				Repository: f.Task.Repository, Reference: indexer.TagOrDigest(d), Priority: indexer.PriorityConfirm,
			})
		}
	}
}

// sortedTags returns the findings about tags in the order in which rows are locked.
func sortedTags(findings []indexer.Finding) []indexer.Finding {
	var tags []indexer.Finding
	for _, f := range findings {
		if f.Task.Reference.IsTag() {
			tags = append(tags, f)
		}
	}
	sort.Slice(tags, func(i, j int) bool {
		a, b := tags[i].Task, tags[j].Task
		return a.Repository < b.Repository || a.Repository == b.Repository && a.Reference < b.Reference
	})
	return tags
}

var tagsNow = `
	SELECT t.repository_id, t.name, t.manifest_id, m.digest, t.problem
	FROM ` + pg.Unnest[tagKey]("wanted", 1) + `
	JOIN tag t ON t.repository_id = wanted.repository_id AND t.name = wanted.name
	LEFT JOIN manifest m ON m.repository_id = t.repository_id AND m.id = t.manifest_id`

func (a *application) currentTags(ctx context.Context, findings []indexer.Finding) (map[tagKey]tagRow, error) {
	var wanted []tagKey
	for _, f := range findings {
		if id, ok := a.repositories[f.Task.Repository]; ok {
			wanted = append(wanted, tagKey{id, f.Task.Reference.Tag()})
		}
	}
	rows, err := pg.Collect[tagRow](ctx, a.tx, tagsNow, pg.Arrays(wanted)...)
	current := map[tagKey]tagRow{}
	for _, r := range rows {
		current[tagKey{r.RepositoryID, r.Name}] = r
	}
	return current, err
}

// moves are the changes that update tags. One statement writes all new and moved
// tags, because they are many; each of the few other changes has its own.
type moves struct {
	batch    pgx.Batch
	set      []shownTag
	history  []movedTag
	recorded []recordedMove  // those of history that were new to it
	guards   []protectionRow // the protections of the repositories in history
}

// A shownTag is a tag and the digest that it now shows.
type shownTag struct {
	RepositoryID int32
	Name         string
	Digest       []byte
	PushedAt     *time.Time // as an event says; nil: none does
}

// A movedTag is a row of the history.
type movedTag struct {
	Repository string
	Tag        string
	SeenBy     string
	FromDigest []byte
	ToDigest   []byte
}

// add adds the changes for one finding, and reports whether the tag changes.
func (m *moves) add(repository int32, f indexer.Finding, now tagRow, exists bool) bool {
	switch f.Outcome {
	case indexer.Gone:
		if exists {
			m.remove(repository, f, now)
		} else {
			m.record(f, "", "") // it may have been deleted while the book was empty
		}
		return exists
	case indexer.Broken:
		if exists && now.Problem != nil && *now.Problem == f.Problem {
			return false
		}
		m.problem(repository, f)
		return true
	}
	if exists && pg.DigestFrom(now.Digest) == f.Digest && now.Problem == nil {
		m.pushed(repository, f)
		return false
	}
	m.set = append(m.set, shownTag{repository, f.Task.Reference.Tag(), pg.DigestBytes(f.Digest), pushedAt(f)})
	m.record(f, pg.DigestFrom(now.Digest), f.Digest)
	queueTagReferrer(&m.batch, repository, f)
	return true
}

// pushedAt returns when the tag of a finding was pushed, nil if no event has said that it was.
func pushedAt(f indexer.Finding) *time.Time {
	if f.Task.Priority != indexer.PriorityEvent || f.Task.Hint != f.Digest {
		return nil
	}
	return pg.TimeOrNull(f.Task.HintedAt)
}

// pushed queues a statement that stores that a tag was pushed again, and did not move. It is no
// change for readers of the catalogue. A task may be read twice, and then the times differ by
// little.
func (m *moves) pushed(repository int32, f indexer.Finding) {
	at := pushedAt(f)
	if at == nil {
		return
	}
	const q = `
		UPDATE tag SET pushed_at = LEAST($3::timestamptz, now())
		WHERE (repository_id, name) = ($1, $2) AND GREATEST(moved_at, pushed_at) < $3::timestamptz - interval '10 ms'`
	m.batch.Queue(q, repository, f.Task.Reference.Tag(), at)
}

func (m *moves) remove(repository int32, f indexer.Finding, now tagRow) {
	m.batch.Queue("DELETE FROM tag WHERE (repository_id, name) = ($1, $2)", repository, f.Task.Reference.Tag())
	m.batch.Queue("DELETE FROM referrer WHERE (repository_id, tag) = ($1, $2)", repository, f.Task.Reference.Tag())
	m.record(f, pg.DigestFrom(now.Digest), "")
}

// problem queues a statement that stores the problem of a tag and keeps its
// manifest.
func (m *moves) problem(repository int32, f indexer.Finding) {
	const q = `
		INSERT INTO tag (repository_id, name, problem) VALUES ($1, $2, $3)
		ON CONFLICT (repository_id, name) DO UPDATE SET problem = excluded.problem`
	m.batch.Queue(q, repository, f.Task.Reference.Tag(), f.Problem)
}

// record adds a move to the history, which no scan can rebuild. If from is unknown,
// the digest of the last move in the history is used.
func (m *moves) record(f indexer.Finding, from, to digest.Digest) {
	if from == to && from != "" {
		return
	}
	seenBy := indexer.SeenByEvent
	if f.Task.Priority == indexer.PriorityScan {
		seenBy = indexer.SeenByScan
	}
	m.history = append(m.history, movedTag{
		Repository: f.Task.Repository, Tag: f.Task.Reference.Tag(), SeenBy: string(seenBy),
		FromDigest: pg.DigestBytes(from), ToDigest: pg.DigestBytes(to),
	})
}

var setTags = `
	INSERT INTO tag AS t (repository_id, name, manifest_id, pushed_at)
	SELECT m.repository_id, moved.name, m.id, LEAST(moved.pushed_at, now())
	FROM ` + pg.Unnest[shownTag]("moved", 1) + `
	JOIN manifest m ON m.repository_id = moved.repository_id AND m.digest = moved.digest
	ON CONFLICT (repository_id, name) DO UPDATE SET manifest_id = excluded.manifest_id, problem = NULL,
		pushed_at = COALESCE(excluded.pushed_at, t.pushed_at),
		moved_at = CASE WHEN t.manifest_id = excluded.manifest_id THEN t.moved_at ELSE now() END`

// recordMoves adds moves to the history. A book that was emptied and filled again
// does not know what its tags showed before, but the history does: a tag that shows
// the digest of its last move has not moved. A tag that was deleted meanwhile keeps
// its last move until somebody reads it by name, because a scan does not find names
// that are neither in the registry nor in the book.
var recordMoves = `
	INSERT INTO tag_history (repository, tag, seen_by, from_digest, to_digest)
	SELECT moved.repository, moved.tag, moved.seen_by, COALESCE(moved.from_digest, last.to_digest), moved.to_digest
	FROM ` + pg.Unnest[movedTag]("moved", 1) + `
	LEFT JOIN LATERAL (
		SELECT h.to_digest FROM tag_history h WHERE h.repository = moved.repository AND h.tag = moved.tag ORDER BY h.id DESC LIMIT 1
	) AS last ON moved.from_digest IS NULL
	WHERE COALESCE(moved.from_digest, last.to_digest) IS DISTINCT FROM moved.to_digest
	RETURNING id, repository, tag, seen_by, from_digest, to_digest, seen_at`

// queueAll queues the statements that are few.
func (m *moves) queueAll() {
	if n := len(m.set); n > 0 {
		// The manifests were in the book when the tasks were claimed, or were read
		// since. If one has been deleted meanwhile, its tag is not written; without
		// this check that would go unnoticed.
		m.batch.Queue(setTags, pg.Arrays(m.set)...).Exec(func(tag pgconn.CommandTag) error {
			if missing := int64(n) - tag.RowsAffected(); missing > 0 {
				return fmt.Errorf("%d manifests were deleted while their tags were read", missing)
			}
			return nil
		})
	}
	if len(m.history) > 0 {
		pg.Queue(&m.batch, &m.recorded, recordMoves, pg.Arrays(m.history)...)
		var patterns []string
		for _, h := range m.history {
			patterns = append(patterns, texts(access.PatternsOf(h.Repository))...)
		}
		pg.Queue(&m.batch, &m.guards, guardsQuery, patterns)
	}
}

// queueTagReferrer queues statements that store what such a tag now shows.
func queueTagReferrer(batch *pgx.Batch, repository int32, f indexer.Finding) {
	subject := indexer.SubjectOfTag(f.Task.Reference.Tag())
	if subject == "" {
		return
	}
	batch.Queue("DELETE FROM referrer WHERE (repository_id, tag) = ($1, $2)", repository, f.Task.Reference.Tag())
	const q = `
		INSERT INTO referrer (repository_id, subject, manifest_id, tag)
		SELECT repository_id, $3, id, $4 FROM manifest WHERE (repository_id, digest) = ($1, $2) AND kind <> 'index'
		ON CONFLICT DO NOTHING`
	batch.Queue(q, repository, pg.DigestBytes(f.Digest), pg.DigestBytes(subject), f.Task.Reference.Tag())
}
