package main

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Goals, of issue 12.
const (
	// goalOne is for the 99th percentile of every class with one client, in milliseconds.
	goalOne = 10
	// goalMany is for the slowest of the mixed searches with several clients, in
	// milliseconds, and goalRate is the least number of them in a second.
	goalMany = 100
	goalRate = 2000
	// goalOpen is for the 99th percentile of the mixed searches at openRate, in
	// milliseconds.
	goalOpen = 50
	openRate = 1000
	// goalGrowth is how many times the median and the 99th percentile may grow from
	// 10,000 repositories to a million.
	goalGrowth = 3
)

// leastQueries is the least number of different queries of a class: with fewer, one
// could be fast by chance, or because all answers are in a cache.
const leastQueries = 300

// A class is one kind of question, with different parameters each time.
type class struct {
	name   string
	search bool // whether it is part of the mix
	path   func(draw) string
	naive  func(draw) (sql string, args []any) // nil: there is no naive statement to compare with
	few    string                              // why there are fewer than leastQueries different ones; "": there are not
	drawn  bool                                // whether the picture has a line for it
}

// A draw returns the parameters of one request.
type draw struct {
	*rand.Rand
	*book
}

var classes = []class{
	{name: "common word", search: true, path: search(draw.common), naive: likeWord(draw.common, 0), drawn: true},
	{name: "rare word", search: true, path: search(draw.rare), naive: likeWord(draw.rare, 0), drawn: true},
	{name: "no match", search: true, path: search(draw.nothing), naive: likeWord(draw.nothing, 0)},
	{name: "two words", search: true, path: search(draw.two), naive: twoWords},
	{name: "two common words", search: true, path: search(draw.twoCommon)},
	{name: "phrase", search: true, path: search(func(d draw) string { return `"` + d.two() + `"` })},
	{name: "prefix of 1 letter", path: suggest(1), naive: likePrefix(1), few: "there are 26 letters"},
	{name: "prefix of 2 letters", path: suggest(2), naive: likePrefix(2), few: "no more words begin differently"},
	{name: "prefix of 3 letters", path: suggest(3), naive: likePrefix(3), few: "no more words begin differently"},
	{name: "prefix of 4 letters", path: suggest(4), naive: likePrefix(4), drawn: true},
	{name: "word and prefix of 2 letters", path: func(d draw) string {
		return "/api/v1/suggest?q=" + url.QueryEscape(d.common()+" "+d.prefix(2))
	}},
	{name: "search for 2 letters", search: true, path: search(func(d draw) string { return d.prefix(2) }),
		few: "no more words begin differently"},
	{name: "typo", path: apiSearch(draw.typo), drawn: true},
	{name: "label equals, rare", search: true, path: search(draw.rareLabel), naive: naiveLabel(draw.rareLabel)},
	{name: "label equals, common", search: true, path: search(draw.commonLabel), naive: naiveLabel(draw.commonLabel)},
	{name: "label exists", search: true, path: search(draw.anyLabel), naive: naiveLabel(draw.anyLabel)},
	{name: "label exists, with facets", path: facets(draw.anyLabel)},
	{name: "label and platform of one image", search: true, drawn: true,
		path: search(func(d draw) string { return d.commonLabel() + " " + d.platform() })},
	{name: "common word and label", search: true, path: search(func(d draw) string {
		return d.commonLabel() + " " + d.common()
	})},
	{name: "platform and common word", search: true, path: search(draw.platformAndWord), naive: naivePlatform},
	{name: "two conditions and a word", search: true, path: search(func(d draw) string {
		return d.commonLabel() + " " + d.platform() + " " + d.common()
	})},
	{name: "namespace", search: true, path: search(func(d draw) string { return "namespace:" + d.namespace() })},
	{name: "first page", path: func(draw) string { return "/" }, few: "it has no parameters"},
	{name: "facets of the first page", path: func(draw) string { return "/api/v1/facets" }, few: "it has no parameters"},
	{name: "newest first", path: func(d draw) string {
		return "/api/v1/search?sort=updated&limit=" + strconv.Itoa(1+d.IntN(100))
	}, naive: naiveNewest, few: "a page has 1 to 100 results"},
	{name: "newest first of a common word", path: sorted("updated")},
	{name: "common word by name", path: sorted("name")},
	{name: "common word by size", path: sorted("size")},
	{name: "flatpak's own query", path: flatpakQuery, naive: naiveFlatpak, few: "only the architecture changes"},
	{name: "repository page", path: func(d draw) string { return "/r/" + d.repositoryName() }},
	{name: "repository in the API", path: func(d draw) string { return "/api/v1/repositories/" + d.repositoryName() }},
	{name: "tag page of 10,000 tags", path: func(d draw) string {
		return fmt.Sprintf("/r/%s?after=v%d.%d.%d", manyTagsName, 1+d.IntN(150), d.IntN(10), d.IntN(5))
	}, naive: naiveTags},
	{name: "digest", search: true, path: search(draw.digest), naive: naiveDigest},
	{name: "facets of a common word", path: facets(draw.common), naive: naiveFacets, drawn: true},
	{name: "page 40 of a common word", path: func(d draw) string {
		return "/v1/search?page=40&q=" + url.QueryEscape(d.common())
	}, naive: likeWord(draw.common, 975)},
}

// draws returns the paths of n requests of a class. They depend only on turn and n.
func (c class) draws(k *book, turn string, n int) []string { return drawn(k, turn, c.path, n) }

func drawn(k *book, turn string, path func(draw) string, n int) (paths []string) {
	for number := range n {
		paths = append(paths, path(draw{source(turn, number), k}))
	}
	return paths
}

// mixed returns the paths of n searches of all kinds.
func mixed(k *book, turn string, n int) []string {
	kinds := slices.DeleteFunc(slices.Clone(classes), func(c class) bool { return !c.search })
	return drawn(k, turn, func(d draw) string { return kinds[d.IntN(len(kinds))].path(d) }, n)
}

func search(query func(draw) string) func(draw) string {
	return func(d draw) string { return "/v1/search?q=" + url.QueryEscape(query(d)) }
}

func apiSearch(query func(draw) string) func(draw) string {
	return func(d draw) string { return "/api/v1/search?q=" + url.QueryEscape(query(d)) }
}

func facets(query func(draw) string) func(draw) string {
	return func(d draw) string { return "/api/v1/facets?q=" + url.QueryEscape(query(d)) }
}

// sorted returns a search for a common word in another order than that of relevance.
func sorted(by string) func(draw) string {
	return func(d draw) string { return "/api/v1/search?sort=" + by + "&q=" + url.QueryEscape(d.common()) }
}

func suggest(letters int) func(draw) string {
	return func(d draw) string { return "/api/v1/suggest?q=" + url.QueryEscape(d.prefix(letters)) }
}

// commonest is the number of words that are called common. The first of them is in a
// third of all names, the last in one of 3,000.
const commonest = 1000

// common returns a common word, drawn as often as it is used: half of all draws are
// among the first 30.
func (d draw) common() string {
	for {
		if rank := d.zipf.draw(d.Rand); rank < commonest {
			return d.words[rank]
		}
	}
}

// rare returns a word that is in 3 to 50 names. In a big book even the rarest word of
// the vocabulary is in more than 3.
func (d draw) rare() string {
	draws := wordsOfName * float64(len(d.names))
	from, to := d.zipf.rankOf(draws/50), d.zipf.rankOf(draws/3)
	return d.words[from+d.IntN(max(to-from, 1))]
}

func (d draw) nothing() string { return "qq" + strconv.FormatUint(d.Uint64()>>16, 36) }

func (d draw) repositoryName() string { return d.names[d.IntN(len(d.names))] }

func (d draw) namespace() string {
	namespace, _, _ := strings.Cut(d.repositoryName(), "/")
	return namespace
}

// two returns two words of one name.
func (d draw) two() string {
	for {
		words := strings.FieldsFunc(d.repositoryName(), func(r rune) bool { return r == '/' || r == '-' })
		if len(words) > 2 {
			i := d.IntN(len(words) - 1)
			return words[i] + " " + words[i+1]
		}
	}
}

func (d draw) twoCommon() string { return d.common() + " " + d.common() }

// prefix returns the beginning of a word: half of them as often as words begin so in
// names, half as often as in the vocabulary, so that rare ones come too.
func (d draw) prefix(letters int) string {
	for {
		w := d.words[d.IntN(len(d.words))]
		if d.IntN(2) == 0 {
			w = d.word(d.Rand)
		}
		if len(w) >= letters {
			return w[:letters]
		}
	}
}

// typo returns a frequent word of five letters or more with one mistake that does not
// make it another word.
func (d draw) typo() string {
	for {
		w := d.words[d.IntN(min(5000, len(d.names)/20))]
		if len(w) < 5 {
			continue
		}
		i := 1 + d.IntN(len(w)-2)
		switch d.IntN(4) {
		case 0:
			w = w[:i] + w[i+1:]
		case 1:
			w = w[:i] + w[i+1:i+2] + w[i:i+1] + w[i+2:]
		case 2:
			w = w[:i] + string(rune('a'+d.IntN(26))) + w[i:]
		default:
			w = w[:i] + string(rune('a'+d.IntN(26))) + w[i+1:]
		}
		if !d.known[w] {
			return w
		}
	}
}

// made makes the rows of a random repository again, except the one with many tags.
func (d draw) made() *rows {
	for {
		number := 1 + d.IntN(len(d.names))
		if d.names[number-1] == manyTagsName {
			continue
		}
		var out rows
		d.repository(number).add(&out)
		return &out
	}
}

// rareLabel returns a label that one image has, or those of one repository.
func (d draw) rareLabel() string {
	for {
		manifests := d.made().manifest
		labels, _ := labelsOf(manifests[d.IntN(len(manifests))]) // a test reads them all
		for _, key := range []string{"org.opencontainers.image.revision", "maintainer", "org.opencontainers.image.source"} {
			if value, ok := labels[key]; ok {
				return "label:" + key + "=" + value
			}
		}
	}
}

func (d draw) commonLabel() string {
	switch d.IntN(3) {
	case 0:
		return "label:org.opencontainers.image.licenses=" + licences[d.licences.draw(d.Rand)]
	case 1:
		return "label:com.example.team=" + d.common()
	}
	image := commonWords[d.keys.draw(d.Rand)%len(commonWords)]
	return "label:org.opencontainers.image.base.name=" + image + ":" + strconv.Itoa(1+d.IntN(20))
}

// anyLabel returns a made-up key, or one that many have.
func (d draw) anyLabel() string {
	if d.IntN(10) == 0 {
		return "label:" + []string{
			"org.opencontainers.image.description", "maintainer", "org.opencontainers.image.vendor", "org.flatpak.ref",
		}[d.IntN(4)]
	}
	return "label:" + d.key(d.keys.draw(d.Rand))
}

var platformNames = []string{"linux/arm64", "linux/amd64", "windows/amd64", "linux/arm", "linux/s390x"}

func (d draw) platform() string { return "platform:" + platformNames[d.IntN(len(platformNames))] }

func (d draw) platformAndWord() string { return d.platform() + " " + d.common() }

// digest returns a digest of the book, whole or shortened as in docker.
func (d draw) digest() string {
	manifests := d.made().manifest
	text := hex.EncodeToString(digestOf(manifests[d.IntN(len(manifests))]))
	if d.IntN(2) == 0 {
		text = text[:12]
	}
	return "digest:sha256:" + text
}

// flatpakQuery returns the query of flatpak 1.14; only the architecture changes.
func flatpakQuery(d draw) string {
	architecture := []string{"amd64", "arm64"}[d.IntN(2)]
	return "/index/static?label%3Aorg.flatpak.ref%3Aexists=1&architecture=" + architecture + "&os=linux&tag=latest"
}
