package web

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// Labels and annotations come from whoever pushes, and one entry that flatpak
// cannot read hides every other: a digest that is not sha256 and 64 hexadecimal
// digits aborts it, and a null or a number for a string makes it refuse the
// whole index. So what leaves here is checked, wherever it comes from. Strings
// of invalid UTF-8 are mended by encoding/json.
var (
	flatpakDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	// flatpakRef is kind/ID/ARCH/BRANCH. flatpak is stricter about each, and
	// passes over a ref that it does not like; this keeps out what is none.
	flatpakRef = regexp.MustCompile(`^(app|runtime)/[A-Za-z0-9_.-]+/[A-Za-z0-9_]+/[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
)

// refLabel is the label that makes an image a flatpak.
const refLabel = "org.flatpak.ref"

// flatpakResults gives what was found as it leaves: repositories in bytewise
// order of name, without the entries that flatpak cannot read, each flatpak
// once.
func flatpakResults(found []indexer.RepositoryImages) []flatpakRepository {
	found = slices.SortedFunc(slices.Values(found), func(a, b indexer.RepositoryImages) int {
		return strings.Compare(a.Name, b.Name)
	})
	results := make([]flatpakRepository, 0, len(found)) // [] if empty, never null
	owners := owners{}
	for _, f := range found {
		r := owners.repository(f)
		if len(r.Images) > 0 || len(r.Lists) > 0 {
			results = append(results, r)
		}
	}
	return results
}

// owners says which repository serves a flatpak under a tag.
//
// Two entries of one ref in one answer are one too many for flatpak: it takes
// either, without a word, and may install what somebody else pushed to another
// repository. So the repository whose name comes first in bytewise order has
// it. A client asks for one tag, one platform: entries that differ in either
// never meet in its answer and are all served, and an image without the label
// is none of this.
type owners map[ownedRef]string

type ownedRef struct{ ref, tag, os, architecture string }

func (o owners) repository(f indexer.RepositoryImages) flatpakRepository {
	r := flatpakRepository{Name: f.Name, Images: []flatpakImage{}, Lists: []flatpakList{}}
	for _, i := range f.Images {
		if o.serves(f.Name, i.Tags, i) {
			r.Images = append(r.Images, taggedImage(i))
		}
	}
	for _, l := range f.Lists {
		if list, ok := o.list(f.Name, l); ok {
			r.Lists = append(r.Lists, list)
		}
	}
	return r
}

// list gives l without the images that are not served. A list that loses all
// it had is not served either.
func (o owners) list(repository string, l indexer.ImageList) (flatpakList, bool) {
	if !flatpakDigest.MatchString(l.Digest.String()) {
		return flatpakList{}, false // before its images take a ref
	}
	list := flatpakList{
		Digest:      l.Digest.String(),
		MediaType:   l.MediaType,
		Images:      []flatpakImage{},
		Annotations: readable(l.Annotations),
		Tags:        tags(l.Tags),
	}
	for _, i := range l.Images {
		if o.serves(repository, l.Tags, i) {
			list.Images = append(list.Images, listedImage(i))
		}
	}
	emptied := len(list.Images) == 0 && len(l.Images) > 0
	return list, !emptied
}

// serves reports whether image, which stands under these tags in repository, is
// served, and if so takes its ref for that repository.
func (o owners) serves(repository string, tags []string, image indexer.Image) bool {
	if !flatpakDigest.MatchString(image.Digest.String()) {
		return false
	}
	ref, isFlatpak := image.Labels[refLabel]
	if !isFlatpak {
		return true
	}
	if !flatpakRef.MatchString(ref) {
		return false // claims to be a flatpak, and no flatpak can be made of it
	}
	keys := make([]ownedRef, len(tags))
	for i, tag := range tags {
		keys[i] = ownedRef{ref, tag, image.OS, image.Architecture}
		if owner := cmp.Or(o[keys[i]], repository); owner != repository {
			return false
		}
	}
	for _, k := range keys {
		o[k] = repository
	}
	return true
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

// readable gives m without NUL, at which a C program takes a string to end.
func readable(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[strings.ReplaceAll(k, "\x00", "\uFFFD")] = strings.ReplaceAll(v, "\x00", "\uFFFD")
	}
	return out
}
