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
	// maxImageBytes is the maximum number of bytes of labels, annotations and tags that an
	// image may have in an answer of images: 512 KiB, twice the labels and annotations
	// that database.maxMetaSize allows by default. The largest in flatpak are appstream
	// texts and icons, about 100 KB.
	maxImageBytes = 512 << 10
	// maxRepositoryBytes is the maximum number of bytes of one repository in such an
	// answer: 4 MiB, 40 flatpaks with the largest icons and texts. A repository mostly
	// holds one flatpak.
	maxRepositoryBytes = 4 << 20
	// maxAnswerBytes is the maximum number of bytes of the whole answer: 32 MiB. 4,000
	// flatpaks without icons take 5 MB, and 1,000 with large ones fit. Each client reads
	// all of it, and its labels take about 50 MB of memory while it is written (measured).
	maxAnswerBytes = 32 << 20
)

// Estimates, in bytes, of what an image, an image index and a tag take in an answer
// beside their own text: field names, a digest, a media type, a platform.
const (
	imageOverhead = 300
	listOverhead  = 250
	tagOverhead   = 3
)

// A foundImage is an image that fulfils all conditions of a query except those on
// tags.
type foundImage struct {
	RepositoryID                int32
	ID                          int64
	Name                        string // of the repository
	Digest                      []byte
	MediaType, OS, Architecture string
	Listed                      bool
	Tags                        []string  // tags of the image itself
	Bytes                       int64     // of labels and annotations
	Ref                         *string   // first 600 characters of the label org.flatpak.ref; nil without it
	RefSince                    time.Time // when Ref was first seen in the repository
}

// A foundList is a tagged image index that lists such images.
type foundList struct {
	id          pg.ManifestID
	digest      []byte
	mediaType   string
	bytes       int64 // of annotations
	tags        []string
	size        int64 // in an answer, without its images; set by groupImages
	images      []listedImage
	annotations map[string]string
}

type listedImage struct {
	*foundImage
	position int32
}

type metadata struct{ labels, annotations map[string]string }

// A group holds the found images of one repository: its tagged images in order of
// digest, then its lists in order of digest, each with its images in the order of the
// index.
type group struct {
	name    string
	entries []*grouped
}

// A grouped is one image of a group.
type grouped struct {
	image    *foundImage
	list     *foundList // nil if the image itself is tagged
	position int32
	size     int64 // in an answer, without its list
	leftOut  bool
	metadata metadata
}

// groupImages groups images by repository, in order of name. It leaves out images and
// lists without a tag that q selects.
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

// budget marks images that do not fit as left out: those larger than image bytes; in
// each repository the largest, so that the rest takes at most repository bytes; and
// if all together exceed most bytes, those that share leaves out. The result depends
// on its arguments only.
func budget(groups []*group, most, repository, image int64) {
	var all int64
	for _, g := range groups {
		all += g.fit(repository, image)
	}
	if all > most {
		share(groups, most)
	}
}

// A contender is a repository, or a namespace with its repositories, that receives
// one image after another.
type contender struct {
	name   string
	taken  int64
	parts  contenders // of a namespace: its repositories that may receive more
	images []*grouped // of a repository: those it may still receive, smallest first
	listed map[*foundList]bool
}

// contenders are a heap, ordered by the fewest bytes received.
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

// share distributes most bytes among images, one by one. The next image is the
// smallest one of the repository that has received least, in the namespace that has
// received least. So an owner who pushes much loses only images of their own. All
// other images are left out.
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

// grant admits the next image of c if there is room, and returns the bytes it takes.
// A repository whose next image does not fit receives nothing more.
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

// fit marks the images that do not fit into most bytes, smallest first, and returns
// the bytes of the others.
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
				r.Lists = append(r.Lists, indexer.ImageList{
					Digest: d, MediaType: e.list.mediaType, Annotations: e.list.annotations, Tags: e.list.tags,
				})
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
		Digest: pg.DigestFrom(e.image.Digest), MediaType: e.image.MediaType,
		OS: e.image.OS, Architecture: e.image.Architecture,
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

// tagAsks are the conditions of a query on tags, each a list of alternatives.
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

// hold reports whether there are tags, and each condition holds for one of them.
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
