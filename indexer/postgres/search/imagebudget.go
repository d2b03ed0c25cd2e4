package search

import (
	"bytes"
	"cmp"
	"container/heap"
	"slices"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
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
	// it, and its labels take some 50 MB of memory while it is made (measured).
	maxAnswerBytes = 32 << 20
)

// What an image and an image index take in an answer beside texts of their own, in
// bytes: names of fields, a digest, a media type, a platform.
const (
	imageOverhead = 300
	listOverhead  = 250
	tagOverhead   = 3
)

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
	id          pg.ManifestID
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
func groupImages(q query.Images, found []*foundImage, lists map[pg.ManifestID]*foundList) []*group {
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
// repository, and if all together are more than most, see share. The same state
// leaves out the same.
func budget(groups []*group, most, repository, image int64) {
	var all int64
	for _, g := range groups {
		all += g.fit(repository, image)
	}
	if all > most {
		share(groups, most)
	}
}

// A contender is a repository, or a namespace with its repositories, that gets one
// image after another.
type contender struct {
	name   string
	taken  int64
	parts  contenders // of a namespace: its repositories that may get more
	images []*grouped // of a repository: those that it may get, smallest first
	listed map[*foundList]bool
}

// contenders are a heap: who has got least comes first.
type contenders []*contender

func (c contenders) Len() int      { return len(c) }
func (c contenders) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c contenders) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(c[i].taken, c[j].taken), strings.Compare(c[i].name, c[j].name)) < 0
}
func (c *contenders) Push(x any) { *c = append(*c, x.(*contender)) }
func (c *contenders) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// share gives most bytes to images one by one: the next to the namespace that has got
// least so far, in it to the repository that has, of that the smallest. So who pushes
// much leaves out what is his own. The rest is left out.
func share(groups []*group, most int64) {
	spaces := map[string]*contender{}
	all := &contender{}
	for _, g := range groups {
		name, _, _ := strings.Cut(g.name, "/")
		if spaces[name] == nil {
			spaces[name] = &contender{name: name}
			all.parts = append(all.parts, spaces[name])
		}
		repository := &contender{name: g.name, listed: map[*foundList]bool{}}
		for _, e := range g.bySize() {
			if !e.leftOut {
				e.leftOut = true
				repository.images = append(repository.images, e)
			}
		}
		if len(repository.images) > 0 {
			spaces[name].parts = append(spaces[name].parts, repository)
		}
	}
	all.parts = slices.DeleteFunc(all.parts, func(c *contender) bool { return len(c.parts) == 0 })
	for _, c := range all.parts {
		heap.Init(&c.parts)
	}
	heap.Init(&all.parts)
	for len(all.parts) > 0 {
		most -= all.grant(most)
	}
}

// grant gives c its next image if there is room, and returns how many bytes that took.
// A repository whose next image has no room gets no more.
func (c *contender) grant(room int64) (n int64) {
	if len(c.parts) > 0 {
		part := c.parts[0]
		n = part.grant(room)
		if len(part.parts) == 0 && len(part.images) == 0 {
			heap.Pop(&c.parts)
		} else {
			heap.Fix(&c.parts, 0)
		}
		c.taken += n
		return n
	}
	e := c.images[0]
	n = e.size
	if e.list != nil && !c.listed[e.list] {
		n += e.list.size
	}
	if n > room {
		c.images = nil
		return 0
	}
	if e.list != nil {
		c.listed[e.list] = true
	}
	e.leftOut = false
	c.images, c.taken = c.images[1:], c.taken+n
	return n
}

// bySize returns the images of g, smallest first.
func (g *group) bySize() []*grouped {
	order := slices.Clone(g.entries)
	slices.SortStableFunc(order, func(a, b *grouped) int { return cmp.Compare(a.size, b.size) })
	return order
}

// fit marks what does not fit into most bytes, smallest first, and returns what the
// rest takes.
func (s *group) fit(most, image int64) (taken int64) {
	listed := map[*foundList]bool{}
	for _, e := range s.bySize() {
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

func repositoriesFrom(groups []*group) []indexer.RepositoryImages {
	var all []indexer.RepositoryImages
	for _, s := range groups {
		r := indexer.RepositoryImages{Name: s.name}
		for _, e := range s.entries {
			if e.list == nil {
				r.Images = append(r.Images, e.shown(e.image.Tags))
				continue
			}
			d := pg.DigestFrom(e.list.digest)
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
		Digest: pg.DigestFrom(e.image.Digest), MediaType: e.image.MediaType, OS: e.image.OS, Architecture: e.image.Architecture,
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

func tagConditions(q query.Images) (asks tagAsks) {
	for _, c := range q {
		if c.Field != query.FieldTag {
			continue
		}
		var any []func(string) bool
		for _, value := range c.Values {
			value = indexer.CleanText(value)
			matches := func(tag string) bool { return tag == value }
			if c.Op == query.OpMatches {
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
