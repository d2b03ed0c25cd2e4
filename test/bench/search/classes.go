package main

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
)

// Goals in milliseconds for the 99th percentile with one client. With several clients,
// which wait for each other, nothing should take longer than goalAnything.
const (
	goalFirstPage = 10
	goalMended    = 25
	goalFacets    = 25
	goalAnything  = 100
)

// A class is one kind of question, with different parameters each time.
type class struct {
	name   string
	goal   float64
	search bool // whether it is part of the mix
	path   func(draw) string
	naive  func(draw) (sql string, args []any) // nil: there is no naive statement to compare with
}

// A draw returns the parameters of one request.
type draw struct {
	*rand.Rand
	*book
}

var classes = []class{
	{"common word", goalFirstPage, true, search(draw.common), likeWord(draw.common, 0)},
	{"rare word", goalFirstPage, true, search(draw.rare), likeWord(draw.rare, 0)},
	{"no match", goalFirstPage, true, search(draw.nothing), likeWord(draw.nothing, 0)},
	{"two words", goalFirstPage, true, search(draw.two), twoWords},
	{"two common words", goalFirstPage, true, search(draw.twoCommon), nil},
	{"prefix of 1 letter", goalFirstPage, false, suggest(1), likePrefix(1)},
	{"prefix of 2 letters", goalFirstPage, false, suggest(2), likePrefix(2)},
	{"prefix of 3 letters", goalFirstPage, false, suggest(3), likePrefix(3)},
	{"search for 2 letters", goalFirstPage, true, search(func(d draw) string { return d.prefix(2) }), nil},
	{"typo", goalMended, false, apiSearch(draw.typo), nil},
	{"label equals, rare", goalFirstPage, true, search(draw.rareLabel), naiveLabel(draw.rareLabel)},
	{"label equals, common", goalFirstPage, true, search(draw.commonLabel), naiveLabel(draw.commonLabel)},
	{"label exists", goalFirstPage, true, search(draw.anyLabel), naiveLabel(draw.anyLabel)},
	{"common word and label", goalFirstPage, true, search(func(d draw) string {
		return d.commonLabel() + " " + d.common()
	}), nil},
	{"platform and common word", goalFirstPage, true, search(draw.platform), naivePlatform},
	{"namespace", goalFirstPage, true, search(func(d draw) string { return "namespace:" + d.namespace() }), nil},
	{"newest first", goalFirstPage, false, func(d draw) string {
		return "/api/v1/search?sort=updated&limit=" + strconv.Itoa(20+d.IntN(11))
	}, naiveNewest},
	{"newest first of a common word", goalFirstPage, false, func(d draw) string {
		return "/api/v1/search?sort=updated&q=" + url.QueryEscape(d.common())
	}, nil},
	{"flatpak's own query", goalFirstPage, false, flatpakQuery, naiveFlatpak},
	{"repository page", goalFirstPage, false, func(d draw) string { return "/r/" + d.repositoryName() }, nil},
	{"repository in the API", goalFirstPage, false, func(d draw) string {
		return "/api/v1/repositories/" + d.repositoryName()
	}, nil},
	{"tag page of 10,000 tags", goalFirstPage, false, func(d draw) string {
		return fmt.Sprintf("/r/%s?after=v%d.%d.%d", manyTagsName, 1+d.IntN(150), d.IntN(10), d.IntN(5))
	}, naiveTags},
	{"digest", goalFirstPage, true, search(draw.digest), naiveDigest},
	{"facets of a common word", goalFacets, false, func(d draw) string {
		return "/api/v1/facets?q=" + url.QueryEscape(d.common())
	}, naiveFacets},
	{"page 40 of a common word", goalAnything, false, func(d draw) string {
		return "/v1/search?page=40&q=" + url.QueryEscape(d.common())
	}, likeWord(draw.common, 975)},
}

func search(query func(draw) string) func(draw) string {
	return func(d draw) string { return "/v1/search?q=" + url.QueryEscape(query(d)) }
}

func apiSearch(query func(draw) string) func(draw) string {
	return func(d draw) string { return "/api/v1/search?q=" + url.QueryEscape(query(d)) }
}

func suggest(letters int) func(draw) string {
	return func(d draw) string { return "/api/v1/suggest?q=" + url.QueryEscape(d.prefix(letters)) }
}

// common returns one of the 100 most frequent words: the first is in a third of all
// names, the last in one of 300.
func (d draw) common() string { return d.words[d.IntN(100)] }

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

// prefix returns the beginning of a word, as often as words begin so. There are only
// two dozen prefixes of one letter.
func (d draw) prefix(letters int) string {
	for {
		if w := d.word(d.Rand); len(w) >= letters {
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

func (d draw) platform() string {
	return "platform:" + platformNames[d.IntN(len(platformNames))] + " " + d.common()
}

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
