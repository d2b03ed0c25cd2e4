package postgres

import (
	"bytes"
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// maxImageBytes is the most bytes of labels, annotations and tags with which an
	// image stands in an answer of images: 512 KiB, twice the labels and annotations
	// that database.maxMetaSize lets in by default. flatpak's largest are appstream
	// texts and icons, some 100 KB.
	maxImageBytes = 512 << 10
	// maxRepositoryBytes is the most bytes of one repository in such an answer:
	// 4 MiB, 40 flatpaks with the largest icons and texts. A repository holds one
	// flatpak, mostly.
	maxRepositoryBytes = 4 << 20
	// maxAnswerBytes is the most bytes of the whole answer: 32 MiB. 4,000 flatpaks
	// are 5 MB without icons and 1,000 with large ones fit. Each client reads all of
	// it, and to make it takes some five times as much memory.
	maxAnswerBytes = 32 << 20
)

// What an image and an image index take in an answer beside texts of their own, in
// bytes: names of fields, a digest, a media type, a platform.
const (
	imageOverhead = 300
	listOverhead  = 250
	tagOverhead   = 3
)

// A manifestID is the key of a manifest.
type manifestID struct {
	repository int32
	id         int64
}

// columnsOf returns keys as two arrays, in order.
func columnsOf(keys iter.Seq[manifestID]) (repositories []int32, ids []int64) {
	sorted := slices.SortedFunc(keys, func(a, b manifestID) int {
		return cmp.Or(cmp.Compare(a.repository, b.repository), cmp.Compare(a.id, b.id))
	})
	for _, k := range sorted {
		repositories, ids = append(repositories, k.repository), append(ids, k.id)
	}
	return repositories, ids
}

// A foundImage is an image that a query selects, but for conditions on tags.
type foundImage struct {
	RepositoryID                int32
	ID                          int64
	Name                        string // of the repository
	Digest                      []byte
	MediaType, OS, Architecture string
	Listed                      bool
	Tags                        []string  // its own
	Bytes                       int64     // of labels and annotations
	Ref                         *string   // the label org.flatpak.ref, its first 600 characters; nil: it has none
	RefSince                    time.Time // when that was first seen in the repository
}

// A foundList is a tagged image index that lists such images.
type foundList struct {
	id          manifestID
	digest      []byte
	mediaType   string
	bytes       int64 // of annotations
	tags        []string
	size        int64 // what it takes in an answer without its images, once groupImages knows
	images      []listedImage
	annotations map[string]string
}

type listedImage struct {
	*foundImage
	position int32
}

type metadata struct{ labels, annotations map[string]string }

// A group is what was found of one repository: its tagged images in order of
// digest, then its lists in theirs, each with its images in the index's order.
type group struct {
	name    string
	entries []*grouped
}

// A grouped is one image of a group.
type grouped struct {
	image    *foundImage
	list     *foundList // nil: it is tagged itself
	position int32
	size     int64 // what it takes in an answer, without its list
	leftOut  bool
	metadata metadata
}

// groupImages puts what was found by repository, in order of name. It leaves out what
// has no tag, or none that q asks for.
func groupImages(q indexer.ImageQuery, found []*foundImage, lists map[manifestID]*foundList) []*group {
	asks := tagConditions(q)
	var all []*grouped
	for _, i := range found {
		if asks.hold(i.Tags) {
			all = append(all, &grouped{image: i, size: imageOverhead + i.Bytes + tagBytes(i.Tags)})
		}
	}
	for _, l := range lists {
		if !asks.hold(l.tags) {
			continue
		}
		l.size = listOverhead + l.bytes + tagBytes(l.tags)
		for _, i := range l.images {
			all = append(all, &grouped{image: i.foundImage, list: l, position: i.position, size: imageOverhead + i.Bytes})
		}
	}
	slices.SortFunc(all, func(a, b *grouped) int {
		if c := strings.Compare(a.image.Name, b.image.Name); c != 0 || a.list == nil && b.list == nil {
			return cmp.Or(c, bytes.Compare(a.image.Digest, b.image.Digest))
		}
		if a.list == nil || b.list == nil {
			return cmp.Compare(len(a.listDigest()), len(b.listDigest()))
		}
		return cmp.Or(bytes.Compare(a.list.digest, b.list.digest), cmp.Compare(a.position, b.position))
	})
	var groups []*group
	for _, e := range all {
		if n := len(groups); n == 0 || groups[n-1].name != e.image.Name {
			groups = append(groups, &group{name: e.image.Name})
		}
		last := groups[len(groups)-1]
		last.entries = append(last.entries, e)
	}
	return groups
}

func (e *grouped) listDigest() []byte {
	if e.list == nil {
		return nil
	}
	return e.list.digest
}

func tagBytes(tags []string) (n int64) {
	for _, t := range tags {
		n += int64(len(t)) + tagOverhead
	}
	return n
}

// budget marks what does not fit into most bytes as left out: images larger than
// image, in each repository the largest of those that together are more than
// repository, and likewise the largest of those that are more than the share of
// the repository, if all together are more than most. Namespaces share alike, and
// the repositories of one share alike what it has: who pushes much leaves out what
// is his own. The same state leaves out the same.
func budget(groups []*group, most, repository, image int64) {
	spaces := map[string][]int{} // places in groups
	needs := make([]int64, len(groups))
	for n, s := range groups {
		needs[n] = s.fit(repository, image)
		space, _, _ := strings.Cut(s.name, "/")
		spaces[space] = append(spaces[space], n)
	}
	if sum(needs) <= most {
		return
	}
	var ofSpaces []int64
	for _, places := range spaces {
		ofSpaces = append(ofSpaces, sum(at(needs, places)))
	}
	share := level(ofSpaces, most)
	for _, places := range spaces {
		own := at(needs, places)
		if sum(own) <= share {
			continue
		}
		each := level(own, share)
		for i, n := range places {
			if own[i] > each {
				groups[n].fit(each, image)
			}
		}
	}
}

// fit marks what does not fit into most bytes, smallest first, and returns what the
// rest takes.
func (s *group) fit(most, image int64) (taken int64) {
	order := slices.Clone(s.entries)
	slices.SortStableFunc(order, func(a, b *grouped) int { return cmp.Compare(a.size, b.size) })
	listed := map[*foundList]bool{}
	for _, e := range order {
		n := e.size
		e.leftOut = n > image+imageOverhead
		if e.list != nil && !listed[e.list] {
			e.leftOut = e.leftOut || e.list.size > image+listOverhead
			n += e.list.size
		}
		if e.leftOut = e.leftOut || taken+n > most; e.leftOut {
			continue
		}
		taken += n
		if e.list != nil {
			listed[e.list] = true
		}
	}
	return taken
}

// level returns the greatest share such that all needs, none of which gets more than
// it, are at most most together.
func level(needs []int64, most int64) int64 {
	sorted := slices.Sorted(slices.Values(needs))
	for i, need := range sorted {
		if rest := int64(len(sorted) - i); need > most/rest {
			return most / rest
		}
		most -= need
	}
	return most
}

func at(of []int64, places []int) []int64 {
	some := make([]int64, len(places))
	for i, n := range places {
		some[i] = of[n]
	}
	return some
}

func sum(of []int64) (n int64) {
	for _, x := range of {
		n += x
	}
	return n
}

func repositoriesFrom(groups []*group) []indexer.RepositoryImages {
	var all []indexer.RepositoryImages
	for _, s := range groups {
		r := indexer.RepositoryImages{Name: s.name}
		for _, e := range s.entries {
			if e.list == nil {
				r.Images = append(r.Images, e.shown(e.image.Tags))
				continue
			}
			d := digestOf(e.list.digest)
			if n := len(r.Lists); n == 0 || r.Lists[n-1].Digest != d {
				r.Lists = append(r.Lists, indexer.ImageList{Digest: d, MediaType: e.list.mediaType, Annotations: e.list.annotations, Tags: e.list.tags})
			}
			last := &r.Lists[len(r.Lists)-1]
			last.Images = append(last.Images, e.shown(nil))
		}
		all = append(all, r)
	}
	return all
}

func (e *grouped) shown(tags []string) indexer.Image {
	i := indexer.Image{
		Digest: digestOf(e.image.Digest), MediaType: e.image.MediaType, OS: e.image.OS, Architecture: e.image.Architecture,
		Labels: e.metadata.labels, Annotations: e.metadata.annotations, Tags: tags, LeftOut: e.leftOut,
	}
	if e.image.Ref != nil {
		i.RefSince = e.image.RefSince
	}
	if e.leftOut && e.image.Ref != nil {
		i.Labels = map[string]string{indexer.FlatpakRefLabel: *e.image.Ref}
	}
	return i
}

// tagAsks are the conditions of a query on tags: one of each must hold.
type tagAsks [][]func(string) bool

func tagConditions(q indexer.ImageQuery) (asks tagAsks) {
	for _, c := range q {
		if c.Field != indexer.FieldTag {
			continue
		}
		var any []func(string) bool
		for _, value := range c.Values {
			value = indexer.CleanText(value)
			matches := func(tag string) bool { return tag == value }
			if c.Op == indexer.OpMatches {
				matches = indexer.Glob(value)
			}
			any = append(any, matches)
		}
		asks = append(asks, any)
	}
	return asks
}

// hold reports whether there are tags, and some of them for each condition.
func (a tagAsks) hold(tags []string) bool {
	for _, any := range a {
		if !slices.ContainsFunc(tags, func(tag string) bool {
			return slices.ContainsFunc(any, func(matches func(string) bool) bool { return matches(tag) })
		}) {
			return false
		}
	}
	return len(tags) > 0
}
