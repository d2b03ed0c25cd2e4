package catalogue

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// A yankView asks whether to yank or deprecate something, or to take that back, and says what
// that changes.
type yankView struct {
	indexer.Yank               // what the page is about; Reason is what was typed
	Now          *indexer.Yank // as it is; nil: it is neither yanked nor deprecated
	Others       []indexer.Yank
	Known        bool     // whether the book has it
	Tags         []string // of an image
	In           indexer.Repository
	Last         bool // whether no tag that is not yanked would be left
	Action, Back string
	Wrong        string
}

// Word returns "yank" or "deprecate".
func (v yankView) Word() string {
	if v.Deprecated {
		return "deprecate"
	}
	return "yank"
}

// What returns what the page is about: tag, image or repository.
func (v yankView) What() string { return kindOfYank(v.Yank) }

func kindOfYank(y indexer.Yank) string {
	switch {
	case y.Tag != "":
		return "tag"
	case y.Digest != "":
		return "image"
	}
	return "repository"
}

// Leads reports whether the page is about the tag that represents the repository.
func (v yankView) Leads() bool { return v.Tag != "" && v.Tag == v.In.Leading }

// yankOf returns what a form or an address names.
func yankOf(form url.Values, deprecated bool) (y indexer.Yank, err error) {
	y = indexer.Yank{
		Repository: cleanField(form, "repository"), Tag: cleanField(form, "tag"), Reason: cleanField(form, "reason"),
		Deprecated: deprecated,
	}
	if text := cleanField(form, "digest"); text != "" && !deprecated {
		if y.Digest, err = indexer.ParseDigest(text); err != nil {
			return y, err
		}
	}
	check := y
	check.Reason = "not known yet"
	return y, check.Check()
}

// addressOfYank returns the page of what is yanked.
func addressOfYank(y indexer.Yank) string { return "/r/" + y.Target() }

// Yank returns the handler of the page that yanks something, or takes that back; with deprecated,
// that of the page that does so with the deprecation of a repository.
func (s *Catalogue) Yank(deprecated bool) answer.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.config.Login.Changer == nil {
			return login.ErrOnlyReads
		}
		who, err := s.config.Login.Person(r)
		if err != nil {
			return err
		}
		if who.Name == "" {
			seeOther(w, "/account?next="+url.QueryEscape(r.URL.RequestURI()))
			return nil
		}
		y, err := yankOf(r.URL.Query(), deprecated)
		if err != nil {
			return err
		}
		return s.showYank(w, r, who, y, http.StatusOK, "")
	}
}

// mayYank returns ErrForbidden unless a person may yank in a repository, which takes the action
// push. For who may not see the repository, there is none.
func (s *Catalogue) mayYank(r *http.Request, who access.Subject, repository string) error {
	if !who.Allowed(repository).Has(access.Pull) {
		return answer.Refuse(http.StatusNotFound, "there is no repository %.255q", repository)
	}
	return s.config.Login.Forbidden(r, who, access.Changers(repository, access.Push)(who))
}

func (s *Catalogue) showYank(
	w http.ResponseWriter, r *http.Request, who access.Subject, y indexer.Yank, code int, problem string,
) error {
	if err := s.mayYank(r, who, y.Repository); err != nil {
		return err
	}
	v := yankView{Yank: y, Wrong: problem, Action: "/manage/yank", Back: addressOfYank(y)}
	if y.Deprecated {
		v.Action = "/manage/deprecate"
	}
	if err := s.answerer.Read(r.Context(), r, func(b answer.Book) error { return v.read(r.Context(), b) }); err != nil {
		return err
	}
	if !v.Known && v.Now == nil {
		return answer.Refuse(http.StatusNotFound, "there is no %s %.300s in the book", v.What(), y.Target())
	}
	if !v.Known {
		v.Back = "/r/" + y.Repository
	}
	title := upperFirst(v.Word()) + " " + y.Target()
	return s.unstored(w, code, "yank", page{Title: title, Account: true, Main: v})
}

// read reads what the page shows.
func (v *yankView) read(ctx context.Context, b answer.Book) (err error) {
	v.In, err = b.Repository(ctx, v.Repository)
	if errors.Is(err, indexer.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	notices, err := b.Notices(ctx, v.Repository)
	if err != nil {
		return err
	}
	if v.Tag == "" && v.Digest == "" {
		v.Known = true
	} else if err := v.readManifest(ctx, b); err != nil {
		return err
	}
	v.sort(notices)
	return v.readLast(ctx, b, notices)
}

// readManifest reads the tags of the image that the page is about, or which the tag shows.
func (v *yankView) readManifest(ctx context.Context, b answer.Book) error {
	m, err := b.Manifest(ctx, indexer.Reference{Repository: v.Repository, Tag: v.Tag, Digest: v.Digest})
	if errors.Is(err, indexer.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	v.Known = true
	tags, err := b.TagsOf(ctx, v.Repository, m.Digest)
	v.Tags = answer.First(slices.DeleteFunc(slices.Clone(tags), func(tag string) bool { return tag == v.Tag }))
	return err
}

// sort finds the yank that the page is about among all of the repository, and those because of
// which searches leave the same out.
func (v *yankView) sort(n indexer.Notices) {
	for _, y := range n.Yanks {
		switch {
		case y.Tag == v.Tag && y.Digest == v.Digest && y.Deprecated == v.Deprecated:
			v.Now = &y
		case y.Tag == "" && y.Digest == "":
			v.Others = append(v.Others, y)
		}
	}
}

// readLast finds out whether no tag would be left that is not yanked. Of a repository with more
// than maxSorted tags it does not.
func (v *yankView) readLast(ctx context.Context, b answer.Book, n indexer.Notices) error {
	if v.Tag == "" && v.Digest == "" || v.Now != nil || v.In.Tags > maxSorted {
		return nil
	}
	tags, err := b.Tags(ctx, v.Repository, "", maxSorted)
	v.Last = err == nil && len(tags) > 0 && !slices.ContainsFunc(tags, func(t indexer.Tag) bool {
		return t.Name != v.Tag && (v.Digest == "" || t.Digest != v.Digest) && n.Of(t.Name, t.Digest) == nil
	})
	return err
}

// MakeYank returns the handler that yanks something, or with deprecated deprecates a repository,
// or takes that back.
func (s *Catalogue) MakeYank(deprecated bool) answer.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		who, err := s.changing(w, r)
		if err != nil {
			return err
		}
		y, err := yankOf(r.PostForm, deprecated)
		if err != nil {
			return err
		}
		if err := s.mayYank(r, who, y.Repository); err != nil {
			return err
		}
		back := r.PostForm.Get("undo") == "yes"
		err = s.change(r, who, access.Changers(y.Repository, access.Push), func(ctx context.Context, c login.Changer) error {
			if back {
				return c.Unyank(ctx, y)
			}
			return c.Yank(ctx, y)
		})
		if errors.Is(err, indexer.ErrNotFound) {
			return answer.Refuse(http.StatusNotFound, "there is no %s %.300s in the book", kindOfYank(y), y.Target())
		}
		if code, text := wrong(err); text != "" {
			return s.showYank(w, r, who, y, code, text)
		}
		if err != nil {
			return err
		}
		seeOther(w, addressOfYank(y))
		return nil
	}
}

// A yankLink leads to the page that yanks or deprecates something, or takes that back.
type yankLink struct{ Text, Address string }

// yankLinks returns the links on the page of a repository, or of a tag or image in it.
func yankLinks(n indexer.Notices, repository, tag string, d digest.Digest) (links []yankLink) {
	targets := []indexer.Yank{{Repository: repository}, {Repository: repository, Deprecated: true}}
	if d != "" {
		targets = []indexer.Yank{{Repository: repository, Digest: d}}
		if tag != "" {
			targets = append([]indexer.Yank{{Repository: repository, Tag: tag}}, targets...)
		}
	}
	for _, y := range targets {
		text, path := "Yank", "/manage/yank"
		if y.Deprecated {
			text, path = "Deprecate", "/manage/deprecate"
		}
		if slices.ContainsFunc(n.Yanks, func(o indexer.Yank) bool {
			return o.Tag == y.Tag && o.Digest == y.Digest && o.Deprecated == y.Deprecated
		}) {
			text = "Un" + map[bool]string{true: "deprecate", false: "yank"}[y.Deprecated]
		}
		if d != "" {
			text = fmt.Sprintf("%s the %s", text, kindOfYank(y))
		}
		links = append(links, yankLink{text, addressWith(path, "repository", repository, "tag", y.Tag, "digest",
			y.Digest.String())})
	}
	return links
}
