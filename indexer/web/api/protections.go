package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// protectionEndpoints returns the endpoints for those who protect, freeze and yank, in the order
// of doc/api.md; none if there are no accounts, because then nobody could be told apart.
func (s *API) protectionEndpoints() []endpoint {
	if s.config.Login == nil || s.config.Login.Accounts == nil {
		return nil
	}
	kind := answer.Parameter{Name: "kind", Doc: "what it does", OneOf: words(access.ProtectionKinds)}
	pattern := answer.Parameter{Name: "pattern", Doc: "its pattern of repositories"}
	tag := answer.Parameter{Name: "tag", Doc: "a tag, whatever it shows; without tag and digest: the whole repository"}
	digest := answer.Parameter{Name: "digest", Doc: "an image, whatever tags show it"}
	reason := answer.Parameter{Name: "reason", Doc: "one line of at most 200 characters, for people who look at it"}
	put, done := []int{http.StatusOK}, []int{http.StatusNoContent}
	const repository = "/repositories/{name}"
	return []endpoint{
		{path: "/protections", id: "protections",
			summary: "List protected tags, frozen repositories and quotas within patterns on which you have the action admin",
			gives:   protectionsAnswer{}, f: s.managing(s.protections), takes: []answer.Parameter{kind, pattern,
				{Name: "repository", Doc: "only those that select this repository"},
				{Name: "limit", Doc: "maximum number of elements (default 100)", Max: maxList},
				{Name: "after", Doc: "only elements after this one, as in the address of the next page"}}},
		{method: "PUT", path: "/protections", id: "putProtection",
			summary: "Protect tags, freeze repositories or set a quota, instead of one with the same kind, pattern and tags",
			body:    newProtection{}, codes: put, gives: protectionAnswer{}, f: s.managing(s.putProtection)},
		{method: "DELETE", path: "/protections", id: "removeProtection", summary: "Remove a protection", codes: done,
			f: s.managing(s.removeProtection), takes: []answer.Parameter{kind, pattern,
				{Name: "tags", Doc: "its pattern of tags"}}},
		{method: "PUT", path: repository + "/-/yank", id: "yank",
			summary: "Take a tag, an image or a repository out of searches; it can still be pulled",
			codes:   put, gives: yankAnswer{}, f: s.managing(s.yank(true, false)), takes: []answer.Parameter{tag, digest,
				reason}},
		{method: "DELETE", path: repository + "/-/yank", id: "unyank", summary: "Give back what was yanked", codes: done,
			f: s.managing(s.yank(false, false)), takes: []answer.Parameter{tag, digest}},
		{method: "PUT", path: repository + "/-/deprecate", id: "deprecate",
			summary: "Take a repository out of searches, with a message; it can still be pulled",
			codes:   put, gives: yankAnswer{}, f: s.managing(s.yank(true, true)), takes: []answer.Parameter{reason}},
		{method: "DELETE", path: repository + "/-/deprecate", id: "undeprecate", summary: "Take the message back",
			codes: done,
			f:     s.managing(s.yank(false, true))},
	}
}

// A protectionAnswer is a protection in the API.
type protectionAnswer struct {
	Kind      string            `json:"kind" doc:"protect: tags do not move and are not deleted; freeze: nothing is pushed or deleted; quota: nothing is pushed above a number of bytes"`
	Pattern   string            `json:"pattern" doc:"* for all repositories, team/* for those below team, or one name"`
	Tags      string            `json:"tags,omitempty" doc:"of protect: the tags, with * for any characters and ? for one"`
	Bytes     *int64            `json:"bytes,omitempty" doc:"of quota"`
	Reason    string            `json:"reason" doc:"what people are told who are refused"`
	Actor     string            `json:"actor" doc:"who set it"`
	CreatedAt *answer.Timestamp `json:"created_at,omitempty"`
	Used      *int64            `json:"used,omitempty" doc:"of quota: the bytes of the repositories, each blob once, as last counted"`
	CountedAt *answer.Timestamp `json:"counted_at,omitempty" doc:"of quota: when a count last came to anything new; what was pushed since the last count, a minute or more ago, is not in used"`
}

func protectionOf(p access.Protection) protectionAnswer {
	a := protectionAnswer{Kind: string(p.Kind), Pattern: p.Pattern.String(), Tags: p.Tags, Reason: p.Reason,
		Actor:     p.Actor,
		CreatedAt: timestampOf(p.CreatedAt)}
	if p.Kind == access.Quota {
		a.Bytes, a.CountedAt = &p.Bytes, timestampOf(p.CountedAt)
		if a.CountedAt != nil {
			a.Used = &p.Used
		}
	}
	return a
}

type protectionsAnswer struct {
	Items []protectionAnswer `json:"items"`
	Next  string             `json:"next,omitempty" doc:"the address of the next page"`
}

func (s *API) protections(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Overseers(who); err != nil {
		return err
	}
	n := r.number("limit", defaultList)
	q, err := r.protectionQuery(who, n+1)
	if err != nil {
		return err
	}
	var list []access.Protection
	err = s.look(r, func(ctx context.Context, c login.Changer) (err error) {
		list, err = c.ProtectionPage(ctx, q)
		return err
	})
	if err != nil {
		return err
	}
	list, next := turn(w, r, list, n, func(p access.Protection) string {
		return p.Pattern.String() + " " + string(p.Kind) + " " + p.Tags
	})
	return answer.WriteJSON(w, http.StatusOK, protectionsAnswer{answer.Map(list, protectionOf), next})
}

// protectionQuery returns the protections that the parameters ask for.
func (r asked) protectionQuery(who access.Subject, limit int) (q access.ProtectionQuery, err error) {
	q = access.ProtectionQuery{Within: who.Overseen(), Kind: access.ProtectionKind(r.values.Get("kind")), Limit: limit}
	if text := r.values.Get("pattern"); text != "" {
		p, err := access.ParsePattern(text)
		if err != nil {
			return q, err
		}
		q.Patterns = []access.Pattern{p}
	}
	if name := r.values.Get("repository"); name != "" {
		if !indexer.IsRepository(name) {
			return q, indexer.InvalidRepository(name)
		}
		if q.Patterns != nil {
			return q, answer.Invalid("the parameters", "pattern and repository exclude each other: give one")
		}
		q.Patterns = access.PatternsOf(name)
	}
	if parts := strings.SplitN(r.values.Get("after"), " ", 3); len(parts) == 3 {
		p, err := access.ParsePattern(parts[0])
		if err != nil {
			return q, err
		}
		q.After = &access.Protection{Kind: access.ProtectionKind(parts[1]), Pattern: p, Tags: parts[2]}
	}
	return q, nil
}

// A newProtection is the body of a request to protect something.
type newProtection struct {
	Kind    string `json:"kind" doc:"protect, freeze or quota"`
	Pattern string `json:"pattern" doc:"* for all repositories, team/* for those below team, or one name"`
	Tags    string `json:"tags,omitempty" doc:"for protect: the tags, with * for any characters and ? for one"`
	Bytes   *int   `json:"bytes,omitempty" doc:"for quota"`
	Reason  string `json:"reason,omitempty" doc:"one line of at most 200 characters, for people who are refused"`
}

func (n newProtection) protection() (p access.Protection, err error) {
	p = access.Protection{Kind: access.ProtectionKind(n.Kind), Tags: n.Tags, Reason: n.Reason}
	if p.Pattern, err = access.ParsePattern(n.Pattern); err != nil {
		return p, err
	}
	switch {
	case p.Kind == access.Quota && n.Bytes == nil:
		return p, answer.Invalid("the field", "\"bytes\" is missing: a quota has a number of bytes")
	case p.Kind != access.Quota && n.Bytes != nil:
		return p, answer.Invalid("the field", "\"bytes\" belongs to a quota: leave it out")
	case n.Bytes != nil:
		p.Bytes = int64(*n.Bytes)
	}
	return p, p.Check()
}

func (s *API) putProtection(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Overseers(who); err != nil {
		return err
	}
	var n newProtection
	if err := r.read(w, &n); err != nil {
		return err
	}
	p, err := n.protection()
	if err != nil {
		return err
	}
	pattern := []access.Pattern{p.Pattern}
	err = s.change(r, who, access.OverseersOf(p.Pattern), func(ctx context.Context, c login.Changer) error {
		if err := c.AddProtection(ctx, p); err != nil {
			return err
		}
		q := access.ProtectionQuery{Within: pattern, Patterns: pattern, Kind: p.Kind, Limit: access.MaxProtectionsBelow}
		list, err := c.ProtectionPage(ctx, q)
		for _, stored := range list {
			if stored.Tags == p.Tags {
				p = stored
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	return answer.WriteJSON(w, http.StatusOK, protectionOf(p))
}

func (s *API) removeProtection(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Overseers(who); err != nil {
		return err
	}
	for _, name := range []string{"kind", "pattern"} {
		if r.values.Get(name) == "" {
			return answer.Invalid("the parameter",
				"%q is missing: a protection is known by its kind, its pattern and its tags", name)
		}
	}
	p := access.Protection{Kind: access.ProtectionKind(r.values.Get("kind")), Tags: r.values.Get("tags")}
	var err error
	if p.Pattern, err = access.ParsePattern(r.values.Get("pattern")); err != nil {
		return err
	}
	err = s.change(r, who, access.OverseersOf(p.Pattern), func(ctx context.Context, c login.Changer) error {
		return c.RemoveProtection(ctx, p)
	})
	if err != nil {
		return orNone(err, "protection %s", p.Name())
	}
	return noContent(w)
}

// A yankAnswer is a tag, an image or a repository that is yanked.
type yankAnswer struct {
	Repository string            `json:"repository"`
	Tag        string            `json:"tag,omitempty" doc:"absent: not a tag"`
	Digest     string            `json:"digest,omitempty" doc:"absent: not an image"`
	Deprecated bool              `json:"deprecated" doc:"whether the repository is deprecated, and not yanked"`
	Reason     string            `json:"reason"`
	CreatedAt  *answer.Timestamp `json:"created_at,omitempty"`
}

func yankOf(y indexer.Yank) yankAnswer {
	return yankAnswer{y.Repository, y.Tag, y.Digest.String(), y.Deprecated, y.Reason, timestampOf(y.CreatedAt)}
}

// yank returns the handler that yanks or deprecates, or takes that back.
func (s *API) yank(add, deprecated bool) forSubject {
	return func(w http.ResponseWriter, r asked, who access.Subject) error {
		name, err := r.repository()
		if err != nil {
			return err
		}
		y := indexer.Yank{Repository: name, Tag: r.values.Get("tag"), Reason: r.values.Get("reason"), Deprecated: deprecated}
		if text := r.values.Get("digest"); text != "" {
			if y.Digest, err = indexer.ParseDigest(text); err != nil {
				return err
			}
		}
		err = s.change(r, who, access.Changers(name, access.Push), func(ctx context.Context, c login.Changer) error {
			if add {
				return c.Yank(ctx, y)
			}
			return c.Unyank(ctx, y)
		})
		switch {
		case err != nil:
			return orNone(err, "%s in the book", y.Target())
		case add:
			return answer.WriteJSON(w, http.StatusOK, yankOf(y))
		}
		return noContent(w)
	}
}

// A noticesAnswer is what people must know of a repository besides its content.
type noticesAnswer struct {
	Repository  string        `json:"repository"`
	Yanked      []yankAnswer  `json:"yanked" doc:"what searches leave out, though it can be pulled; also whether the repository is deprecated"`
	Protections []keptAnswer  `json:"protections" doc:"the protections that select the repository"`
	Moved       []movedAnswer `json:"moved" doc:"protected tags that somebody moved or deleted all the same, the latest 100 first"`
}

// A keptAnswer is a protection as everybody may read it who sees the repository.
type keptAnswer struct {
	Kind    string            `json:"kind" doc:"protect, freeze or quota"`
	Pattern string            `json:"pattern" doc:"of repositories"`
	Tags    string            `json:"tags,omitempty" doc:"of protect: the tags"`
	Refuses bool              `json:"refuses" doc:"whether every push is refused now: the repository is frozen, or the quota is used up"`
	Text    string            `json:"text" doc:"what it does, and its reason"`
	Since   *answer.Timestamp `json:"since,omitempty"`
}

type movedAnswer struct {
	Tag       string            `json:"tag"`
	Keeps     string            `json:"keeps" doc:"the digest that the tag must show"`
	Shows     string            `json:"shows" doc:"the digest that it was seen to show; empty: it was deleted"`
	State     string            `json:"state" doc:"waiting: it is being put back; done: it shows what it must again; failed: it is not put back"`
	Tries     int               `json:"tries" doc:"operations that were to put it back, within a day"`
	Operation int64             `json:"operation,omitempty" doc:"the last of them"`
	SeenAt    answer.Timestamp  `json:"seen_at" doc:"when it was last seen to show something else"`
	EndedAt   *answer.Timestamp `json:"ended_at,omitempty"`
	Problem   string            `json:"problem,omitempty" doc:"why it is not put back, or not yet"`
}

func keptOf(k indexer.Kept) keptAnswer {
	return keptAnswer{k.Kind, k.Pattern, k.Tags, k.Holds, k.Text, timestampOf(k.Since)}
}

func movedOf(m indexer.ProtectedMove) movedAnswer {
	return movedAnswer{m.Tag, m.Keeps.String(), m.Shows.String(), m.State, m.Tries, m.Operation,
		answer.Timestamp{Time: m.SeenAt}, timestampOf(m.EndedAt), m.Problem}
}

func (s *API) notices(w http.ResponseWriter, r asked) error {
	name, err := r.repository()
	if err != nil {
		return err
	}
	return s.json(w, r, query.Query{}, func(b answer.Book) (any, string, error) {
		if _, err := b.Repository(r.Context(), name); err != nil {
			return nil, "", err
		}
		n, err := b.Notices(r.Context(), name)
		return noticesAnswer{name, answer.Map(n.Yanks, yankOf), answer.Map(n.Kept, keptOf),
			answer.Map(n.Moves, movedOf)}, "", err
	})
}
