package answer

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

// A Book is one consistent state of the catalogue, as one asker sees it: everything asked of it
// within one ReadFunc belongs to the Version it tells. A Book is used by one
// goroutine at a time.
type Book interface {
	Version(ctx context.Context) (indexer.Version, error)
	// Asker returns who the book is read for. What is kept of a book is kept for its
	// asker and version only.
	Asker() indexer.Asker

	// Search gives one page of the repositories that q selects, best first.
	Search(ctx context.Context, q query.Query) (indexer.Results, error)
	// Repositories gives those that have a tag, by name, after the one named.
	Repositories(ctx context.Context, after string, limit int) ([]indexer.Repository, error)
	// Repository gives ErrNotFound if there is none of that name.
	Repository(ctx context.Context, name string) (indexer.Repository, error)
	// Tags gives tags in bytewise order of name, after the one named.
	Tags(ctx context.Context, repository, after string, limit int) ([]indexer.Tag, error)
	// Versions gives the tags of repositories that look like versions, in no order.
	Versions(ctx context.Context, repositories []string) (map[string][]string, error)
	// Manifest reads by tag or digest; it gives ErrNotFound if there is none.
	Manifest(ctx context.Context, ref indexer.Reference) (indexer.Manifest, error)
	TagsOf(ctx context.Context, repository string, d digest.Digest) ([]string, error)
	// Referrers returns one page of what belongs to a manifest.
	Referrers(ctx context.Context, q indexer.ReferrerQuery) (indexer.ReferrerPage, error)
	// Images gives the repositories that hold an image q selects, by name.
	Images(ctx context.Context, q query.Images) ([]indexer.RepositoryImages, error)
	// ImagesState names what Images gives, and is quicker: of one epoch, what has
	// the same name is the same.
	ImagesState(ctx context.Context, q query.Images) (string, error)
	Status(ctx context.Context) (indexer.Status, error)
	// Overview counts what is in the book, and says when it is looked after.
	Overview(ctx context.Context) (indexer.Overview, error)

	// Freshness is the catalogue version of this state and when the last whole
	// scan ended.
	Freshness(ctx context.Context) (indexer.Freshness, error)
	// Facets counts what q selects.
	Facets(ctx context.Context, q query.Query) (indexer.Facets, error)
	// Suggest completes what is being typed: repositories by the beginning of
	// their name or last path component, best first.
	Suggest(ctx context.Context, text string, limit int) ([]indexer.Suggestion, error)
	// Correct gives the text of a query with a misspelt word mended that finds
	// something, "" if there is none.
	Correct(ctx context.Context, q query.Query) (string, error)
	// Near is Correct of one mistake in a word. It does not look whether the text is a
	// query that finds something.
	Near(ctx context.Context, q query.Query) (string, error)
	// Names gives those of repositories that have a tag, in order, after the one
	// named.
	Names(ctx context.Context, after string, limit int) ([]string, error)
	// CountRepositories is how many repositories have a tag.
	CountRepositories(ctx context.Context) (int, error)
	// History gives moves of tags, latest first, older than before (0: from the
	// latest). tag "" is all of the repository's; repository "" is everybody's.
	History(ctx context.Context, repository, tag string, before int64, limit int) ([]indexer.Move, error)
	// HistoryAt gives the id than which all moves that were seen until a time are
	// older, 0 if none was seen later.
	HistoryAt(ctx context.Context, at time.Time) (int64, error)
	// RepositoriesAt and TagsAt are as the history tells that it was at a time. A
	// tag has Name, Digest and MovedAt, and the rest if the book still holds the
	// manifest.
	RepositoriesAt(ctx context.Context, at time.Time, after string, limit int) ([]string, error)
	TagsAt(ctx context.Context, repository string, at time.Time, after string, limit int) ([]indexer.Tag, error)
	// Uses says where a digest stands, in order of repository and digest, after
	// the two named.
	Uses(ctx context.Context, d digest.Digest, afterRepository string, afterDigest digest.Digest, limit int) ([]indexer.Use, error)

	// Storage, NamespaceStorage and RepositoryStorage are what is stored, as it was
	// last counted; CountedAt is zero before the first time. Namespaces come most
	// bytes first, or the one named alone; repositories in the order asked for.
	Storage(ctx context.Context) (indexer.Storage, error)
	NamespaceStorage(ctx context.Context, name *string, limit int) ([]indexer.NamespaceStorage, error)
	RepositoryStorage(ctx context.Context, q indexer.StorageQuery) ([]indexer.RepositoryStorage, error)

	// AllManifests gives those of all repositories, in order of repository and
	// digest, after the two named. It ends early where bodies are large, and with
	// an empty slice only at the end.
	AllManifests(ctx context.Context, afterRepository string, afterDigest digest.Digest, limit int) ([]indexer.Manifest, error)
	// AllTags gives those of all repositories, in order of repository and name,
	// after the two named.
	AllTags(ctx context.Context, afterRepository, afterTag string, limit int) ([]indexer.TagOf, error)
}

// A ReadFunc runs f in one read-only snapshot, as the asker sees it, and returns the error of f. It is
// safe for concurrent use. It may run f again, on another snapshot, if the first
// was lost: what f does must begin anew, and f must write to no response.
type ReadFunc func(ctx context.Context, asker indexer.Asker, f func(Book) error) error
