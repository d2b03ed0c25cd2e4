package catalogue

import (
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
)

// A notice is a sentence about what was taken back or must stay as it is, above the content of a
// page.
type notice struct {
	Grave bool // whether people should not use what they look at, or something went wrong
	Text  string
}

// noticesOfRepository returns the notices of the page of a repository.
func noticesOfRepository(n indexer.Notices) (all []notice) {
	if y := n.Deprecated(); y != nil {
		all = append(all, withdrawn("This repository is deprecated", *y))
	}
	if y := n.Yanked(); y != nil {
		all = append(all, withdrawn("This repository is yanked", *y))
	}
	for _, k := range n.Kept {
		if k.Kind == "quota" && !k.Holds {
			continue
		}
		all = append(all, notice{Text: upperFirst(k.Text) + "."})
	}
	for _, m := range n.Moves {
		if m.State != indexer.ProtectedDone {
			all = append(all, movedNotice(m))
		}
	}
	return all
}

// noticesOfManifest returns the notices of the page of a tag, or of a manifest for "".
func noticesOfManifest(n indexer.Notices, tag string, d digest.Digest) (all []notice) {
	if y := n.Deprecated(); y != nil {
		all = append(all, withdrawn("This repository is deprecated", *y))
	}
	if y := n.Of(tag, d); y != nil {
		what := "This repository is yanked"
		switch {
		case y.Tag != "":
			what = "This tag is yanked"
		case y.Digest != "":
			what = "This image is yanked"
		}
		all = append(all, withdrawn(what, *y))
	}
	if tag == "" {
		return all
	}
	for _, k := range n.Kept {
		if k.Kind == "freeze" || k.Kind == "protect" && indexer.MatchGlob(k.Tags, tag) {
			all = append(all, notice{Text: upperFirst(k.Text) + "."})
		}
	}
	for _, m := range n.Moves {
		if m.Tag == tag {
			all = append(all, movedNotice(m))
		}
	}
	return all
}

// withdrawn returns the notice of a yank.
func withdrawn(what string, y indexer.Yank) notice {
	if y.Reason != "" {
		what += ": " + strings.TrimSuffix(y.Reason, ".")
	}
	return notice{true, what + ". Searches leave it out; it can still be pulled."}
}

// movedNotice returns the notice of a protected tag that was moved all the same.
func movedNotice(m indexer.ProtectedMove) notice {
	text := fmt.Sprintf("Somebody moved the protected tag %s away from %s at %s", m.Tag, shortDigest(m.Keeps),
		m.SeenAt.UTC().Format("2006-01-02 15:04:05 MST"))
	if m.Shows == "" {
		text = strings.Replace(text, "moved", "deleted", 1)
		text = strings.Replace(text, " away from ", ", which showed ", 1) + ","
	}
	switch m.State {
	case indexer.ProtectedWaiting:
		text += "; it is being put back"
		if m.Problem != "" {
			text += ": " + m.Problem
		}
	case indexer.ProtectedFailed:
		text += ". " + upperFirst(m.Problem)
	case indexer.ProtectedDone:
		if m.Problem != "" {
			return notice{false, text + "; " + m.Problem + "."}
		}
		return notice{false, text + "; it was put back at " + m.EndedAt.UTC().Format(time.TimeOnly) + "."}
	}
	return notice{true, text + "."}
}

func shortDigest(d digest.Digest) string {
	if d == "" {
		return "nothing"
	}
	return d.Encoded()[:12]
}

// upperFirst returns a text with its first letter in upper case.
func upperFirst(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// tagBadges returns the badges of a tag for what was taken back or must stay as it is.
func tagBadges(n indexer.Notices, t indexer.Tag) (all []badge) {
	if n.Of(t.Name, t.Digest) != nil {
		all = append(all, badge{"artifact", "yanked"})
	}
	if n.Protects(t.Name) {
		all = append(all, badge{"artifact", "protected"})
	}
	return all
}
