package api

import (
	"context"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// collectEndpoints returns the endpoints of the garbage collection of blobs, for administrators.
func (s *API) collectEndpoints() []endpoint {
	states := []string{
		string(indexer.Waiting), string(indexer.Trashed), string(indexer.Stuck), string(indexer.Deleted),
	}
	return []endpoint{
		{path: "/collect", id: "collect", summary: "Get the state of the garbage collection of blobs",
			gives: collectAnswer{}, f: s.managing(s.collect)},
		{path: "/collect/blobs", id: "collectBlobs",
			summary: "List the blobs that no manifest uses, or that were deleted lately, in order of digest",
			gives:   candidatesAnswer{}, f: s.managing(s.candidates), takes: []answer.Parameter{
				{Name: "state", Doc: "only blobs of this state", OneOf: states},
				{Name: "limit", Doc: "maximum number of elements (default 100)", Max: maxList},
				{Name: "after", Doc: "only elements after this digest"}}},
		{method: "POST", path: "/collect/pause", id: "pauseCollect", summary: "Delete no blobs any more, at once",
			urgent: true, gives: collectAnswer{}, f: s.managing(s.changingCollect(
				func(ctx context.Context, c login.Collections) error { return c.PauseCollection(ctx, true) }))},
		{method: "POST", path: "/collect/resume", id: "resumeCollect", summary: "Let blobs be deleted again after a pause",
			gives: collectAnswer{}, f: s.managing(s.changingCollect(
				func(ctx context.Context, c login.Collections) error { return c.PauseCollection(ctx, false) }))},
		{method: "POST", path: "/collect/retry", id: "retryCollect",
			summary: "Try blobs again that are stuck or wait after a failure",
			gives:   collectAnswer{}, f: s.managing(s.changingCollect(
				func(ctx context.Context, c login.Collections) error {
					_, err := c.RetryCollection(ctx)
					return err
				}))},
	}
}

// A lookAnswer is the last look at the storage of the registry.
type lookAnswer struct {
	Begin            answer.Timestamp `json:"begin"`
	Seconds          float64          `json:"seconds" doc:"how long it took"`
	Blobs            int64            `json:"blobs" doc:"blobs in the storage"`
	Bytes            int64            `json:"bytes" doc:"bytes of these"`
	Manifests        int64            `json:"manifests" doc:"manifests in the storage, one for each repository that has it"`
	BookBytes        int64            `json:"book_bytes" doc:"bytes of the blobs and manifests of the book, each once"`
	BookManifests    int64            `json:"book_manifests" doc:"manifests of the book"`
	OnlyBook         int64            `json:"only_book" doc:"manifests of the book that the storage does not have"`
	OnlyStorage      int64            `json:"only_storage" doc:"manifests in the storage that the book does not have"`
	Unused           int64            `json:"unused" doc:"blobs that no manifest uses"`
	UnusedBytes      int64            `json:"unused_bytes"`
	Unlinked         int64            `json:"unlinked" doc:"blobs that no manifest uses and no repository links"`
	UnlinkedBytes    int64            `json:"unlinked_bytes"`
	Trashed          int64            `json:"trashed" doc:"blobs in the trash"`
	TrashedBytes     int64            `json:"trashed_bytes"`
	Missing          int64            `json:"missing" doc:"blobs that a manifest needs and that the storage does not have"`
	NotLinked        int64            `json:"not_linked" doc:"blobs that a manifest needs and that no repository links"`
	AbandonedUploads int64            `json:"abandoned_uploads" doc:"uploads to which nothing was written for a day"`
	AbandonedBytes   int64            `json:"abandoned_bytes"`
	ActiveUploads    int64            `json:"active_uploads"`
	Exact            bool             `json:"exact" doc:"whether all links and manifests could be read; otherwise the counts of what is unused, unlinked, missing and not linked are not exact"`
	Unreadable       int64            `json:"unreadable" doc:"links and manifests that could not be read"`
	Examples         []string         `json:"examples" doc:"some of the differences, in words"`
	Problems         []string         `json:"problems" doc:"paths that could not be used, each with the reason; at most 100"`
}

// lookOf returns nil if there is no look.
func lookOf(l indexer.StorageLook) *lookAnswer {
	if l.Begin.IsZero() {
		return nil
	}
	return &lookAnswer{
		Begin: answer.Timestamp{Time: l.Begin}, Seconds: l.Seconds, Blobs: l.Blobs, Bytes: l.Bytes, Manifests: l.Manifests,
		BookBytes: l.BookBytes, BookManifests: l.BookManifests, OnlyBook: l.OnlyBook, OnlyStorage: l.OnlyStorage,
		Unused: l.Unused, UnusedBytes: l.UnusedBytes, Unlinked: l.Unlinked, UnlinkedBytes: l.UnlinkedBytes,
		Trashed: l.Trashed, TrashedBytes: l.TrashedBytes, Missing: l.Missing, NotLinked: l.Cut,
		AbandonedUploads: l.AbandonedUploads, AbandonedBytes: l.AbandonedBytes, ActiveUploads: l.ActiveUploads,
		Exact: l.Unreadable == 0, Unreadable: l.Unreadable, Examples: append([]string{}, l.Examples...),
		Problems: append([]string{}, l.Problems...),
	}
}

type collectAnswer struct {
	Does            string            `json:"does" doc:"what the collection does, or why it deletes nothing; empty if it is not configured"`
	Paused          bool              `json:"paused"`
	PausedBy        string            `json:"paused_by,omitempty"`
	PausedAt        *answer.Timestamp `json:"paused_at,omitempty"`
	Looks           int64             `json:"looks" doc:"how often the whole storage was looked at"`
	ObservedSeconds float64           `json:"observed_seconds" doc:"for how long it has been looked at without long gaps"`
	Look            *lookAnswer       `json:"look,omitempty" doc:"the last look; absent before the first"`
	Deleted         int64             `json:"deleted" doc:"blobs deleted since the beginning"`
	DeletedBytes    int64             `json:"deleted_bytes"`
	States          []candidateSum    `json:"states" doc:"how many blobs are in which state"`
	LongestSeconds  float64           `json:"longest_return_seconds" doc:"the longest time after which a blob that looks had seen unused was needed again"`
	Returns         []returnedAnswer  `json:"returns" doc:"how many blobs were needed again, by how long looks had seen them unused"`
}

type candidateSum struct {
	State indexer.CandidateState `json:"state" doc:"waiting, trashed, stuck or deleted"`
	Blobs int64                  `json:"blobs"`
	Bytes int64                  `json:"bytes"`
}

type returnedAnswer struct {
	Seconds float64 `json:"seconds" doc:"at most; 0: any time longer than that of the element before"`
	Used    int64   `json:"used" doc:"blobs that a manifest uses again"`
	Linked  int64   `json:"linked" doc:"blobs that a repository links again"`
}

func collectOf(c indexer.Collection) collectAnswer {
	return collectAnswer{
		Does: c.Does, Paused: c.Paused, PausedBy: c.PausedBy, PausedAt: timestampOf(c.PausedAt), Looks: c.Looks,
		ObservedSeconds: c.Observed.Seconds(), Look: lookOf(c.Look), Deleted: c.Deleted, DeletedBytes: c.DeletedBytes,
		States:         answer.Map(c.Sums, func(s indexer.CandidateSum) candidateSum { return candidateSum(s) }),
		LongestSeconds: c.Longest.Seconds(),
		Returns: answer.Map(c.Returns, func(r indexer.Returned) returnedAnswer {
			return returnedAnswer{r.UpTo.Seconds(), r.Used, r.Linked}
		}),
	}
}

func (s *API) collect(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Administrators(who); err != nil {
		return err
	}
	var c indexer.Collection
	err := s.look(r, func(ctx context.Context, l login.Changer) (err error) {
		c, err = l.Collection(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return answer.WriteJSON(w, http.StatusOK, collectOf(c))
}

// changingCollect returns a handler that changes the collection, and answers with its state.
func (s *API) changingCollect(f func(context.Context, login.Collections) error) forSubject {
	return func(w http.ResponseWriter, r asked, who access.Subject) error {
		err := s.change(r, who, access.Administrators, func(ctx context.Context, c login.Changer) error { return f(ctx, c) })
		if err != nil {
			return err
		}
		return s.collect(w, r, who)
	}
}

type candidatesAnswer struct {
	Items []candidateAnswer `json:"items"`
	Next  string            `json:"next,omitempty" doc:"the address of the next page"`
}

type candidateAnswer struct {
	Digest     string                 `json:"digest"`
	Size       int64                  `json:"size"`
	State      indexer.CandidateState `json:"state" doc:"waiting, trashed, stuck or deleted"`
	UnusedAt   answer.Timestamp       `json:"unused_at" doc:"since when looks have seen that no manifest uses it"`
	UnlinkedAt *answer.Timestamp      `json:"unlinked_at,omitempty" doc:"since when no repository links it either; absent if one does"`
	ChangedAt  answer.Timestamp       `json:"changed_at" doc:"when its state last changed"`
	Failures   int                    `json:"failures,omitempty" doc:"how often in a row the storage refused to move or delete it"`
	NextTry    *answer.Timestamp      `json:"next_try,omitempty"`
	Problem    string                 `json:"problem,omitempty" doc:"why the last try did not succeed"`
}

func candidateOf(c indexer.Candidate) candidateAnswer {
	return candidateAnswer{
		Digest: c.Digest.String(), Size: c.Size, State: c.State, UnusedAt: answer.Timestamp{Time: c.UnusedAt},
		UnlinkedAt: timestampOf(c.UnlinkedAt), ChangedAt: answer.Timestamp{Time: c.ChangedAt}, Failures: c.Failures,
		NextTry: timestampOf(c.NextTry), Problem: c.Problem,
	}
}

func (s *API) candidates(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Administrators(who); err != nil {
		return err
	}
	after, err := afterDigest(r)
	if err != nil {
		return err
	}
	n := r.number("limit", defaultList)
	var list []indexer.Candidate
	err = s.look(r, func(ctx context.Context, c login.Changer) (err error) {
		list, err = c.Candidates(ctx, indexer.CandidateState(r.values.Get("state")), after, n+1)
		return err
	})
	if err != nil {
		return err
	}
	list, next := turn(w, r, list, n, func(c indexer.Candidate) string { return c.Digest.String() })
	return answer.WriteJSON(w, http.StatusOK, candidatesAnswer{answer.Map(list, candidateOf), next})
}

// afterDigest returns the digest of the parameter after, "" if there is none.
func afterDigest(r asked) (digest.Digest, error) {
	text := r.values.Get("after")
	if text == "" {
		return "", nil
	}
	d, err := digest.Parse(text)
	if err != nil || d.Algorithm() != digest.SHA256 {
		return "", answer.Invalid("after", "is %.100q: write sha256: and 64 hexadecimal digits", text)
	}
	return d, nil
}
