package catalogue

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// A protectionView is the page of protected tags, frozen repositories and quotas.
type protectionView struct {
	Sections    []protectionSection
	Repository  string // only what selects it; "": everything
	Levels      []indexer.ProtectionLevel
	Overseen    []access.Pattern
	Everything  bool // whether the one who looks manages all protections
	Wrong, Done string
	Typed       url.Values // of a form
	tabs
}

// A protectionSection lists the protections of one kind, and has the form that adds one.
type protectionSection struct {
	Kind       access.ProtectionKind
	Rows       []protectionRow
	Back, More string
	Typed      url.Values // of the form
}

// Get returns what was typed into a field.
func (s protectionSection) Get(name string) string { return s.Typed.Get(name) }

// A protectionRow is a protection in the table of its kind.
type protectionRow struct {
	access.Protection
	Limit, Usage string // of a quota, in the same units
	Share        string // of a quota, what is used in per cent
}

// Counted reports whether it is known how much of a quota is used.
func (p protectionRow) Counted() bool { return !p.CountedAt.IsZero() }

// Protection serves the protections that a person manages.
func (s *Catalogue) Protection(w http.ResponseWriter, r *http.Request) error {
	return s.protection(w, r, http.StatusOK, protectionView{})
}

func (s *Catalogue) protection(w http.ResponseWriter, r *http.Request, code int, v protectionView) error {
	return s.manage(w, r, access.Overseers, func(ctx context.Context, c login.Changer, who access.Subject) error {
		v.Overseen, v.Everything, v.tabs = who.Overseen(), who.Oversees(access.Every), tabsOf(who, "protection")
		v.Levels, v.Repository = s.config.Levels(), cleanField(r.URL.Query(), "repository")
		err := v.fill(ctx, c, r.URL.Query())
		if problemCode, text := wrong(err); text != "" && v.Wrong == "" {
			code, v.Wrong, err = problemCode, text, nil
		}
		if err != nil {
			return err
		}
		return s.unstored(w, code, "protection", page{Title: "Protection", Account: true, Main: v})
	})
}

// fill reads the sections that the page shows: all of them, or another page of one.
func (v *protectionView) fill(ctx context.Context, c login.Changer, form url.Values) error {
	q := access.ProtectionQuery{Within: v.Overseen, Limit: pageSize + 1}
	if v.Repository != "" {
		if !indexer.IsRepository(v.Repository) {
			return indexer.InvalidRepository(v.Repository)
		}
		q.Patterns = access.PatternsOf(v.Repository)
	}
	only := access.ProtectionKind(cleanField(form, "kind"))
	for _, kind := range access.ProtectionKinds {
		if slices.Contains(access.ProtectionKinds, only) && kind != only {
			continue
		}
		if q.Kind, q.After = kind, nil; kind == only {
			after, err := protectionAfter(kind, cleanField(form, "after"))
			if err != nil {
				return err
			}
			q.After = after
		}
		list, err := c.ProtectionPage(ctx, q)
		if err != nil {
			return err
		}
		section := v.section(kind, list)
		if kind == only {
			section.Back = addressWith("/manage/protection", "repository", v.Repository)
		}
		v.Sections = append(v.Sections, section)
	}
	return nil
}

// protectionAfter returns the protection after which a page begins; nil if it is the first page.
func protectionAfter(kind access.ProtectionKind, text string) (*access.Protection, error) {
	pattern, tags, found := strings.Cut(text, " ")
	if !found {
		return nil, nil
	}
	p, err := access.ParsePattern(pattern)
	return &access.Protection{Kind: kind, Pattern: p, Tags: tags}, err
}

// section returns the section of a kind, of which list has one more than a page.
func (v *protectionView) section(kind access.ProtectionKind, list []access.Protection) protectionSection {
	s := protectionSection{Kind: kind}
	if v.Typed.Get("kind") == string(kind) && v.Wrong != "" {
		s.Typed = v.Typed
	}
	if len(list) > pageSize {
		list = list[:pageSize]
		last := list[pageSize-1]
		s.More = addressWith("/manage/protection", "repository", v.Repository, "kind", string(kind),
			"after", last.Pattern.String()+" "+last.Tags)
	}
	s.Rows = answer.Map(list, rowOfProtection)
	return s
}

func rowOfProtection(p access.Protection) protectionRow {
	row := protectionRow{Protection: p}
	if p.Kind != access.Quota {
		return row
	}
	unit := int64(1024)
	if p.Bytes >= 1000 && p.Bytes%1000 == 0 {
		unit = 1000 // somebody has written 500GB, and wants to read that
	}
	row.Limit, row.Usage = sizeIn(unit, p.Bytes), sizeIn(unit, p.Used)
	switch percent := int64(float64(p.Used) / float64(max(p.Bytes, 1)) * 100); {
	case p.Used > 0 && percent == 0:
		row.Share = "under 1"
	default:
		row.Share = grouped(percent)
	}
	return row
}

// protectionOf returns the protection that was typed into a form.
func protectionOf(form url.Values) (p access.Protection, err error) {
	p = access.Protection{
		Kind: access.ProtectionKind(cleanField(form, "kind")), Tags: cleanField(form, "tags"),
		Reason: cleanField(form, "reason"),
	}
	if p.Pattern, err = access.ParsePattern(cleanField(form, "pattern")); err != nil {
		return p, err
	}
	if text := cleanField(form, "bytes"); text != "" || p.Kind == access.Quota {
		if p.Bytes, err = access.ParseQuota(text); err != nil {
			return p, err
		}
	}
	return p, p.Check()
}

// protectedTexts say what is so when a protection is added.
var protectedTexts = map[access.ProtectionKind]string{
	access.Protect: "The tags are protected.", access.Freeze: "It is frozen.", access.Quota: "The quota is set.",
}

// AddProtection protects tags, freezes repositories, once the person is sure, or sets a quota.
func (s *Catalogue) AddProtection(w http.ResponseWriter, r *http.Request) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	p, err := protectionOf(r.PostForm)
	if err == nil && p.Kind == access.Freeze && !isSure(r) {
		if err = s.config.Login.Forbidden(r, who, access.OverseersOf(p.Pattern)(who)); err == nil {
			return s.confirm(w, r, confirmView{Question: "Freeze " + p.Pattern.String() + "?",
				Advice: "From now on nothing is pushed to these repositories and nothing is deleted from them, by nobody: " +
					"administrators, retention, restore and rollback are refused too. Pulls go on. It ends when the " +
					"protection is removed on the page before.",
				Button: "Freeze", Back: "/manage/protection"})
		}
	}
	if err == nil {
		err = s.change(r, who, access.OverseersOf(p.Pattern), func(ctx context.Context, c login.Changer) error {
			return c.AddProtection(ctx, p)
		})
	}
	if code, text := wrong(err); text != "" {
		return s.protection(w, r, code, protectionView{Wrong: text, Typed: r.PostForm})
	}
	if err != nil {
		return err
	}
	return s.protection(w, r, http.StatusOK, protectionView{Done: p.Pattern.String() + ": " + protectedTexts[p.Kind]})
}

// unprotectQuestions ask whether a protection is to be removed, and say what that changes.
var unprotectQuestions = map[access.ProtectionKind]confirmView{
	access.Protect: {Question: "Stop protecting these tags: ",
		Advice: "They can then be moved and deleted, by people and by rules of retention, unless something else protects" +
			" them. Nothing is changed by removing the protection itself."},
	access.Freeze: {Question: "Let repositories change again: ",
		Advice: "Who has the right can then push to them and delete from them, and so can rules of retention."},
	access.Quota: {Question: "Remove the quota of ",
		Advice: "Nothing then limits how much is pushed there, unless a wider quota does."},
}

// RemoveProtection removes a protection, once the person is sure.
func (s *Catalogue) RemoveProtection(w http.ResponseWriter, r *http.Request) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	kind := access.ProtectionKind(cleanField(r.PostForm, "kind"))
	p := access.Protection{Kind: kind, Tags: cleanField(r.PostForm, "tags")}
	if p.Pattern, err = access.ParsePattern(cleanField(r.PostForm, "pattern")); err != nil {
		return err
	}
	ask, known := unprotectQuestions[p.Kind]
	if err := s.config.Login.Forbidden(r, who, access.OverseersOf(p.Pattern)(who)); err != nil {
		return err
	}
	if known && !isSure(r) {
		ask.Question += strings.TrimSpace(p.Pattern.String()+" "+answer.Cut(p.Tags, 128)) + "?"
		ask.Button, ask.Back = "Remove", "/manage/protection"
		return s.confirm(w, r, ask)
	}
	err = s.change(r, who, access.OverseersOf(p.Pattern), func(ctx context.Context, c login.Changer) error {
		return c.RemoveProtection(ctx, p)
	})
	if err != nil && !errors.Is(err, indexer.ErrNotFound) { // it may be gone already
		return err
	}
	seeOther(w, "/manage/protection")
	return nil
}
