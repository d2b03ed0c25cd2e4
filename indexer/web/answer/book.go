package answer

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

// A Book is one consistent state of the catalogue, as one asker sees it. Within one
// ReadFunc, all results belong to the same Version. A Book is used by one goroutine
// at a time.
//
// To its asker, a repository that the asker may not see does not exist: it is in no list
// and no count, and an answer about it is that about one that does not exist. A number
// that cannot be restricted is left out. Only the Version and the ids of moves count
// what happens to all repositories.
type Book interface {
	Version(ctx context.Context) (indexer.Version, error)
	// Asker returns the asker for whom the book is read. What is cached from a book is
	// valid for its asker and version only.
	Asker() indexer.Asker

	// Search returns one page of the repositories that match q, best first.
	Search(ctx context.Context, q query.Query) (indexer.Results, error)
	// Repositories returns the repositories that have a tag, by name, after the given
	// name.
	Repositories(ctx context.Context, after string, limit int) ([]indexer.Repository, error)
	// Repository returns ErrNotFound if there is no repository of that name.
	Repository(ctx context.Context, name string) (indexer.Repository, error)
	// Notices returns what is yanked, protected and frozen in a repository; nothing if
	// there is no such repository.
	Notices(ctx context.Context, repository string) (indexer.Notices, error)
	// Tags returns tags in bytewise order of name, after the given name.
	Tags(ctx context.Context, repository, after string, limit int) ([]indexer.Tag, error)
	// Versions returns the tags of repositories that look like versions, in no order.
	Versions(ctx context.Context, repositories []string) (map[string][]string, error)
	// PackageFiles returns the files of packages of pesde with these names, those that
	// there are; prefix begins the names of their repositories.
	PackageFiles(ctx context.Context, prefix string, names []string) (map[string][]byte, error)
	// Manifest reads by tag or digest. It returns ErrNotFound if there is no such
	// manifest.
	Manifest(ctx context.Context, ref indexer.Reference) (indexer.Manifest, error)
	// Descriptors returns media type, digest and size of manifests of a repository, those
	// that the book holds.
	Descriptors(ctx context.Context, repository string,
		digests []digest.Digest) (map[digest.Digest]ocispec.Descriptor, error)
	TagsOf(ctx context.Context, repository string, d digest.Digest) ([]string, error)
	// Referrers returns one page of the referrers of a manifest.
	Referrers(ctx context.Context, q indexer.ReferrerQuery) (indexer.ReferrerPage, error)
	// Images returns the repositories that hold an image that matches q, by name.
	Images(ctx context.Context, q query.Images) ([]indexer.RepositoryImages, error)
	// ImagesState returns a name for the result of Images, and is faster. Within one
	// epoch, equal names mean equal results.
	ImagesState(ctx context.Context, q query.Images) (string, error)
	Status(ctx context.Context) (indexer.Status, error)
	// Overview returns counts of what is in the book, and its maintenance times.
	Overview(ctx context.Context) (indexer.Overview, error)
	// Jobs returns the states of the leader's jobs, as it last reported them.
	Jobs(ctx context.Context) (indexer.JobReport, error)

	// Copy returns the state of the copy in memory from which this process answers
	// searches. It does not belong to the state of the book.
	Copy(ctx context.Context) (indexer.SearchCopy, error)
	// Freshness returns the version of this state and the time when the last full scan
	// ended.
	Freshness(ctx context.Context) (indexer.Freshness, error)
	// Facets counts what q matches.
	Facets(ctx context.Context, q query.Query) (indexer.Facets, error)
	// Suggest completes typed text: it returns the repositories whose name or last path
	// component begins with text, best first.
	Suggest(ctx context.Context, text string, limit int) ([]indexer.Suggestion, error)
	// Correct returns the text of q with one misspelt word corrected, if that query
	// finds something, or "".
	Correct(ctx context.Context, q query.Query) (string, error)
	// Near is like Correct for one mistake in a word, but does not check that the
	// corrected query finds something.
	Near(ctx context.Context, q query.Query) (string, error)
	// Names returns the names of repositories that have a tag, in order, after the
	// given name.
	Names(ctx context.Context, after string, limit int) ([]string, error)
	// CountRepositories returns the number of repositories that have a tag.
	CountRepositories(ctx context.Context) (int, error)
	// History returns moves of tags, latest first, older than before (0: from the
	// latest). If tag is "", it returns the moves of all tags of the repository; if
	// repository is "", those of all repositories.
	History(ctx context.Context, repository, tag string, before int64, limit int) ([]indexer.Move, error)
	// HistoryAt returns the id of the first move seen after at, or 0 if there is none. It
	// is a place in the history, and may be the id of a move that the asker may not see.
	HistoryAt(ctx context.Context, at time.Time) (int64, error)
	// HistoryBegins returns the time before which the past is unknown, zero if all of it is.
	HistoryBegins(ctx context.Context) (time.Time, error)
	// RepositoriesAt and TagsAt return the state at a time, according to the history. A
	// tag has Name, Digest and MovedAt; it has the rest only if the book still holds
	// the manifest. If d is not "", TagsAt returns the tags that showed it.
	RepositoriesAt(ctx context.Context, at time.Time, after string, limit int) ([]string, error)
	TagsAt(ctx context.Context, repository string, at time.Time, d digest.Digest, after string,
		limit int) ([]indexer.Tag, error)
	// SearchAt returns the repositories that matched q at a time, by name: see
	// indexer.PastResults.
	SearchAt(ctx context.Context, q query.Query, at time.Time) (indexer.PastResults, error)
	// RepositoryAt returns one repository as it was at a time. It returns ErrNotFound if it
	// had no tag then.
	RepositoryAt(ctx context.Context, name string, at time.Time) (indexer.PastRepository, error)
	// Uses returns where a digest is used, ordered by repository and digest, after the
	// two given.
	Uses(ctx context.Context, d digest.Digest, afterRepository string, afterDigest digest.Digest,
		limit int) ([]indexer.Use, error)

	// Storage, NamespaceStorage and RepositoryStorage return what is stored, as last
	// counted; CountedAt is zero before the first count. Namespaces are ordered by
	// bytes, largest first, or only the named one is returned; repositories have the
	// order of q.
	Storage(ctx context.Context) (indexer.Storage, error)
	NamespaceStorage(ctx context.Context, name *string, limit int) ([]indexer.NamespaceStorage, error)
	RepositoryStorage(ctx context.Context, q indexer.StorageQuery) ([]indexer.RepositoryStorage, error)

	// Holding returns what a namespace, repository, tag or manifest takes, and what deleting
	// it would free. It returns ErrNotFound if there is none, and ErrTooSlow if it is too
	// large to say.
	Holding(ctx context.Context, of indexer.HoldingOf) (indexer.Holding, error)

	// Usage returns how often a repository, or one of its tags or manifests, was pulled and
	// pushed, or ErrNotFound if there is no such. HeardAt and StaleSince do not belong to the
	// state of the book.
	Usage(ctx context.Context, q indexer.UsageQuery) (indexer.Usage, error)
	// LastPulls returns when tags and manifests of a repository were last pulled.
	LastPulls(ctx context.Context, repository string, tags []string, digests []digest.Digest) (indexer.LastPulls, error)

	// Project, Held, HeldTags and HeldManifests return what the registry of Deploys.app tells of
	// a project, in its order and at most limit of it. Of a repository that is not one of its
	// project they return ErrNotFound.
	Project(ctx context.Context, project string, limit int) ([]indexer.HeldRepository, error)
	Held(ctx context.Context, repository string) (indexer.HeldRepository, error)
	HeldTags(ctx context.Context, repository string, limit int) ([]indexer.HeldTag, error)
	HeldManifests(ctx context.Context, repository string, limit int) ([]indexer.HeldManifest, error)
	// ProjectStorage returns what a project takes, as last calculated. It returns ErrNotFound to
	// an asker who does not see all of the project.
	ProjectStorage(ctx context.Context, project string) (indexer.ProjectStorage, error)

	// StorageLook returns the last look at the storage of the registry, compared with the
	// book. Its Begin is zero if there is none, and for an asker who does not see every
	// repository.
	StorageLook(ctx context.Context) (indexer.StorageLook, error)

	// AllManifests returns the manifests of all repositories, ordered by repository and
	// digest, after the two given. It may return fewer than limit if bodies are large,
	// and returns an empty slice only at the end.
	AllManifests(ctx context.Context, afterRepository string, afterDigest digest.Digest,
		limit int) ([]indexer.Manifest, error)
	// AllTags returns the tags of all repositories, ordered by repository and name,
	// after the two given.
	AllTags(ctx context.Context, afterRepository, afterTag string, limit int) ([]indexer.TagOf, error)
}

// A ReadFunc runs f in one read-only snapshot for asker, and returns the error of f.
// It is safe for concurrent use. If the snapshot is lost, it may run f again on
// another one, so f must discard earlier results and must not write to a response.
type ReadFunc func(ctx context.Context, asker indexer.Asker, f func(Book) error) error
