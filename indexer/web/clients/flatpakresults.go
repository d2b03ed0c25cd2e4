package clients

import (
	"cmp"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// Labels and annotations are written by those who push, and one entry that flatpak
// cannot read hides all others: a digest that is not sha256 and 64 hexadecimal digits
// aborts it, and null or a number in place of a string makes it refuse the whole index.
// So all output is checked, wherever it comes from. encoding/json replaces invalid
// UTF-8.
var flatpakDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// flatpakResults returns the content of the index: repositories in bytewise order of
// name, without entries that flatpak cannot read, each flatpak once. leftOut counts the
// images that are missing only because they are too large.
func flatpakResults(found []indexer.RepositoryImages, owners flatpakOwners) (results []flatpakRepository, leftOut int) {
	found = slices.SortedFunc(slices.Values(found), func(a, b indexer.RepositoryImages) int {
		return strings.Compare(a.Name, b.Name)
	})
	served := owners.served(found)
	results = make([]flatpakRepository, 0, len(found)) // [] if empty, never null
	for _, f := range found {
		r, n := served.repository(f)
		leftOut += n
		if len(r.Images) > 0 || len(r.Lists) > 0 {
			results = append(results, r)
		}
	}
	return results, leftOut
}

// flatpakOwners are the configured owners; the first whose Ref matches counts.
type flatpakOwners []struct{ ref, repository func(string) bool }

func ownersOf(owners []indexer.FlatpakOwner) (all flatpakOwners) {
	for _, o := range owners {
		all = append(all, struct{ ref, repository func(string) bool }{indexer.Glob(o.Ref), indexer.Glob(o.Repository)})
	}
	return all
}

// allow reports whether the configuration lets a repository serve a ref.
func (o flatpakOwners) allow(ref, repository string) bool {
	for _, owner := range o {
		if owner.ref(ref) {
			return owner.repository(repository)
		}
	}
	return true
}

// A claim is an image of a repository that may be served under tags.
type claim struct {
	repository string
	tags       []string
	image      *indexer.Image
}

// since is the sort key of claims: the first seen first, those without a time last.
func (c claim) since() int64 {
	if c.image.RefSince.IsZero() {
		return math.MaxInt64
	}
	return c.image.RefSince.UnixMicro()
}

// served holds the images that are served, or would be if they were not too large.
type served map[*indexer.Image]bool

// served returns the images of found that are served.
//
// Flatpak expects one entry for each ref in an answer: of two it silently takes either,
// and may install what somebody else pushed to another repository. So a ref belongs to
// the repository that the configuration names, else the one in which it was seen first,
// else the one whose name is first in bytewise order. A client asks for one tag and one
// platform: entries that differ in either are never in the same answer and are all
// served. Images without the label are not affected.
func (o flatpakOwners) served(found []indexer.RepositoryImages) served {
	var claims []claim
	for _, f := range found {
		for n := range f.Images {
			claims = append(claims, claim{f.Name, f.Images[n].Tags, &f.Images[n]})
		}
		for _, l := range f.Lists {
			for n := range l.Images {
				if flatpakDigest.MatchString(l.Digest.String()) { // else it takes no ref
					claims = append(claims, claim{f.Name, l.Tags, &l.Images[n]})
				}
			}
		}
	}
	slices.SortStableFunc(claims, func(a, b claim) int { return cmp.Compare(a.since(), b.since()) })
	taken, s := map[ownedRef]string{}, served{}
	for _, c := range claims {
		s[c.image] = o.grant(taken, c)
	}
	return s
}

// An ownedRef is what only one repository can have.
type ownedRef struct{ ref, tag, os, architecture string }

// grant reports whether the image of a claim is served, and if so reserves its refs for
// its repository.
func (o flatpakOwners) grant(taken map[ownedRef]string, c claim) bool {
	if !flatpakDigest.MatchString(c.image.Digest.String()) {
		return false
	}
	ref, isFlatpak := c.image.Labels[indexer.FlatpakRefLabel]
	if !isFlatpak {
		return true
	}
	if !indexer.IsFlatpakRef(ref) || !o.allow(ref, c.repository) {
		return false // not a valid flatpak, or the ref belongs to another repository
	}
	keys := make([]ownedRef, len(c.tags))
	for i, tag := range c.tags {
		keys[i] = ownedRef{ref, tag, c.image.OS, c.image.Architecture}
		if owner := cmp.Or(taken[keys[i]], c.repository); owner != c.repository {
			return false
		}
	}
	for _, k := range keys {
		taken[k] = c.repository
	}
	return true
}

func (s served) repository(f indexer.RepositoryImages) (r flatpakRepository, leftOut int) {
	r = flatpakRepository{Name: f.Name, Images: []flatpakImage{}, Lists: []flatpakList{}}
	for n := range f.Images {
		switch i := &f.Images[n]; {
		case !s[i]:
		case i.LeftOut:
			leftOut++
		default:
			r.Images = append(r.Images, taggedImage(*i))
		}
	}
	for _, l := range f.Lists {
		list, ok, n := s.list(l)
		if leftOut += n; ok {
			r.Lists = append(r.Lists, list)
		}
	}
	return r, leftOut
}

// list returns l without the images that are not served; ok is false if that removes
// all its images.
func (s served) list(l indexer.ImageList) (list flatpakList, ok bool, leftOut int) {
	if !flatpakDigest.MatchString(l.Digest.String()) {
		return list, false, 0
	}
	list = flatpakList{
		Digest:      l.Digest.String(),
		MediaType:   l.MediaType,
		Images:      []flatpakImage{},
		Annotations: readable(l.Annotations),
		Tags:        tags(l.Tags),
	}
	for n := range l.Images {
		switch i := &l.Images[n]; {
		case !s[i]:
		case i.LeftOut:
			leftOut++
		default:
			list.Images = append(list.Images, listedImage(*i))
		}
	}
	emptied := len(list.Images) == 0 && len(l.Images) > 0
	return list, !emptied, leftOut
}

func taggedImage(i indexer.Image) flatpakImage {
	image, t := listedImage(i), tags(i.Tags)
	image.Tags = &t
	return image
}

func listedImage(i indexer.Image) flatpakImage {
	return flatpakImage{
		Digest:       i.Digest.String(),
		MediaType:    i.MediaType,
		OS:           i.OS,
		Architecture: i.Architecture,
		Annotations:  readable(i.Annotations),
		Labels:       readable(i.Labels),
	}
}

func tags(t []string) []string {
	return append([]string{}, t...) // [] if empty, never null
}

// readable returns m without NUL, which ends a string in a C program.
func readable(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[strings.ReplaceAll(k, "\x00", "\uFFFD")] = strings.ReplaceAll(v, "\x00", "\uFFFD")
	}
	return out
}
