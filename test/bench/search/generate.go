package main

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// seed of everything that is drawn. A different seed makes a different book; it is
	// part of the mark that identifies a book on disk.
	seed = 20261101
	// manyTags is the number of tags of the largest repository; the others have 10 on
	// average.
	manyTags     = 10_000
	manyTagsName = "archive/nightly"
	// sharedLayers is the number of base image layers, which all repositories share.
	sharedLayers = 2000
	// labelKeys is the number of made-up label keys.
	labelKeys = 3000
)

// end is the latest of all times in a book.
var end = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// A generator makes up a book of a given number of repositories. It is safe for
// concurrent use, and always makes the same from the same arguments.
type generator struct {
	words    []string
	known    map[string]bool // the same words
	zipf     zipf
	names    []string // sorted: a first scan reads and numbers them in that order
	keys     zipf
	base     zipf
	licences zipf
}

func newGenerator(repositories int) *generator {
	g := &generator{
		words: newVocabulary(), zipf: newZipf(vocabularySize),
		keys: newZipf(labelKeys), base: newZipf(sharedLayers), licences: newZipf(len(licences)),
	}
	g.known = map[string]bool{}
	for _, w := range g.words {
		g.known[w] = true
	}
	seen := map[string]bool{manyTagsName: true}
	g.names = append(make([]string, 0, repositories), manyTagsName)
	for i := 1; i < repositories; i++ {
		base := g.name(source("name", i))
		name := base
		for k := 2; seen[name]; k++ {
			name = base + "-" + strconv.Itoa(k)
		}
		seen[name] = true
		g.names = append(g.names, name)
	}
	slices.Sort(g.names)
	return g
}

// source returns a random source that depends only on its arguments.
func source(what string, number int) *rand.Rand {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(what) {
		h = (h ^ uint64(what[i])) * 1099511628211
	}
	return rand.New(rand.NewPCG(seed^h, uint64(number)))
}

func (g *generator) word(r *rand.Rand) string { return g.words[g.zipf.draw(r)] }

// name draws a name in one of the usual forms.
func (g *generator) name(r *rand.Rand) string {
	namespace := g.word(r)
	if r.Float64() < 0.5 {
		namespace += "-" + g.word(r)
	}
	switch x := r.Float64(); {
	case x < 0.50: // acme/order-api
		return namespace + "/" + g.word(r) + "-" + g.word(r)
	case x < 0.70: // acme/checkout/order-api
		return namespace + "/" + g.word(r) + "/" + g.word(r) + "-" + g.word(r)
	case x < 0.90: // acme/nginx
		return namespace + "/" + g.word(r)
	case x < 0.99: // acme/order-api-proxy
		return namespace + "/" + g.word(r) + "-" + g.word(r) + "-" + g.word(r)
	}
	return g.word(r) // nginx
}

// wordsOfName is about how many words the average name has, used to find a word of a
// given frequency.
const wordsOfName = 3.5

var licences = []string{
	"Apache-2.0", "MIT", "Proprietary", "BSD-3-Clause", "GPL-3.0-only", "MPL-2.0", "AGPL-3.0-or-later",
	"LGPL-2.1-only", "ISC", "EUPL-1.2", "Unlicense", "Zlib",
}

// Words in the dictionaries of the database, by number.
var (
	mediaTypes = []string{
		1: "application/vnd.oci.image.manifest.v1+json", 2: "application/vnd.oci.image.index.v1+json",
		3: "application/vnd.docker.distribution.manifest.v2+json",
		4: "application/vnd.docker.distribution.manifest.list.v2+json",
		5: "application/spdx+json", 6: "application/vnd.dev.cosign.simplesigning.v1+json",
		7: "application/vnd.cncf.helm.config.v1+json", 8: "application/vnd.cncf.notary.signature",
	}
	platforms = [][3]string{
		1: {"linux", "amd64", ""}, 2: {"linux", "arm64", ""}, 3: {"linux", "arm", "v7"}, 4: {"linux", "s390x", ""},
		5: {"windows", "amd64", ""}, 6: {"linux", "ppc64le", ""}, 7: {"linux", "riscv64", ""}, 8: {"linux", "386", ""},
	}
)

const (
	ociImage, ociIndex, dockerImage         = 1, 2, 3
	spdx, cosign, helm, notary              = 5, 6, 7, 8
	linuxAmd64, linuxArm64, windowsAmd64    = 1, 2, 5
	imageKind, indexKind, artifactKind      = "image", "index", "artifact"
	flatpakShare, chartShare, multiShare    = 0.005, 0.02, 0.15
	signedShare, cosignShare, describeShare = 0.05, 0.02, 0.60
)

// rows holds the rows of some repositories, by table, in the order of its columns.
type rows struct {
	repository, blob, manifest, body, entry, tag, referrer [][]any
}

// columns names the columns of each table that a row has.
var columns = map[string][]string{
	"repository": {"id", "name", "created_at", "updated_at"},
	"blob":       {"id", "digest", "size"},
	"manifest": {
		"repository_id", "id", "digest", "media_type_id", "artifact_type_id", "kind", "platform_id", "size",
		"content_size", "created_at", "seen_at", "labels", "annotations", "subject", "config_id", "layer_ids",
	},
	"manifest_body": {"repository_id", "manifest_id", "body"},
	"index_entry":   {"repository_id", "manifest_id", "position", "digest", "media_type_id", "platform_id", "size"},
	"tag":           {"repository_id", "name", "manifest_id", "created_at", "moved_at"},
	"referrer":      {"repository_id", "subject", "manifest_id", "tag"},
}

// A repository is a repository that is being made up.
type repository struct {
	*generator
	*rand.Rand
	id       int32
	name     string
	next     int64 // number of the last manifest made; nextBlob begins with the same number
	nextBlob int64
	created  time.Time

	about                               string // description, "" for 40 %
	licence, team, vendor, from, keeper string
	custom                              [][2]string
	revisions, sourced                  bool
	flatpak                             string // its ref, "" for most
	own                                 []int64
	ownSize                             int64
	layers                              []int64
	layersSize                          int64
}

// repository returns the repository with a number from 1; 0 is for what all share.
func (g *generator) repository(number int) *repository {
	r := source("repository", number)
	p := &repository{
		generator: g, Rand: r, id: int32(number), name: g.names[number-1], next: int64(number) << 16,
		nextBlob: int64(number) << 16,
	}
	age := time.Duration(r.Float64() * r.Float64() * 4 * 365 * 24 * float64(time.Hour))
	p.created = end.Add(-age - 24*time.Hour).Truncate(time.Second)
	p.team, _, _ = strings.Cut(p.name, "/")
	p.licence = licences[g.licences.draw(r)]
	if r.Float64() < describeShare {
		p.about = g.sentence(r)
	}
	if r.Float64() < 0.4 {
		p.vendor = g.word(r) + " " + g.word(r)
	}
	if r.Float64() < 0.3 {
		p.from = commonWords[g.keys.draw(r)%len(commonWords)] + ":" + strconv.Itoa(1+r.IntN(20))
	}
	if r.Float64() < 0.3 {
		p.keeper = g.word(r) + "@" + g.word(r) + ".example"
	}
	p.revisions, p.sourced = r.Float64() < 0.5, r.Float64() < 0.4
	for range r.IntN(4) {
		p.custom = append(p.custom, [2]string{g.key(g.keys.draw(r)), g.word(r)})
	}
	return p
}

// key returns a made-up label key: com.acme.stage.
func (g *generator) key(rank int) string {
	return "com." + g.words[200+rank%500] + "." + g.words[rank]
}

func (g *generator) sentence(r *rand.Rand) string {
	var b strings.Builder
	for i := range 8 + r.IntN(9) {
		w := g.word(r)
		if i == 0 {
			w = strings.ToUpper(w[:1]) + w[1:]
		} else {
			b.WriteByte(' ')
		}
		b.WriteString(w)
	}
	b.WriteByte('.')
	return b.String()
}

// tagCount draws how many tags a repository has: 10 on average, half of them fewer than
// six.
func (p *repository) tagCount() int {
	if p.name == manyTagsName {
		return manyTags
	}
	switch x := p.Float64(); {
	case x < 0.35:
		return 1 + p.IntN(3)
	case x < 0.75:
		return 4 + p.IntN(9)
	case x < 0.95:
		return 12 + p.IntN(17)
	}
	return 30 + p.IntN(31)
}

// add makes the rows of the repository. One version in five has another tag: 1.2 for
// 1.2.3, latest for the last.
func (p *repository) add(out *rows) {
	tags := p.tagCount()
	versions := max(tags*4/5, 1)
	x := p.Float64()
	many := x < multiShare
	chart := x > 1-chartShare
	if f := p.Float64(); f < flatpakShare {
		many, chart = false, false
		vendor, app := p.word(p.Rand), strings.ToUpper(p.word(p.Rand))
		p.flatpak = fmt.Sprintf("app/org.%s.%s%d/x86_64/stable", vendor, app, p.id)
	}
	signed, cosigned := p.Float64() < signedShare, p.Float64() < cosignShare
	at := p.created
	step := max(end.Sub(p.created)/time.Duration(versions+1), time.Minute)
	if p.Float64() < 0.5 {
		step /= 4 // a repository that nobody has changed for long
	}
	var newest time.Time
	addTag := func(name string, manifest int64, at time.Time) {
		out.tag = append(out.tag, []any{p.id, name, manifest, at, at})
		newest = at
	}
	extra := tags - versions
	for v := range versions {
		at = at.Add(time.Duration(float64(step) * (0.5 + p.Float64())))
		version := fmt.Sprintf("%d.%d.%d", 1+v/50, v/5%10, v%5)
		var id int64
		var d []byte
		switch {
		case chart:
			id, d = p.artifact(out, helm, nil, at)
		case many:
			id, d = p.index(out, version, at)
		default:
			id, d = p.image(out, p.platform(), version, at)
		}
		addTag("v"+version, id, at)
		if cosigned && extra > 1 {
			signature, _ := p.artifact(out, cosign, nil, at)
			name := "sha256-" + hex.EncodeToString(d) + ".sig"
			addTag(name, signature, at)
			out.referrer = append(out.referrer, []any{p.id, d, signature, name})
			extra--
		}
		if signed {
			for _, kind := range []int{spdx, notary}[p.IntN(2):] {
				p.artifact(out, kind, d, at)
			}
		}
		if v == versions-1 && extra > 0 {
			addTag("latest", id, at)
			extra--
		} else if extra > 1 && p.Float64() < 0.22 {
			addTag(strings.TrimSuffix(version, fmt.Sprint(".", v%5))+"-"+strconv.Itoa(v), id, at)
			extra--
		}
	}
	out.repository = append(out.repository, []any{p.id, p.name, p.created, newest})
}

func (p *repository) platform() int {
	switch x := p.Float64(); {
	case p.flatpak != "", x < 0.90:
		return linuxAmd64
	case x < 0.97:
		return linuxArm64
	}
	return windowsAmd64
}

func (p *repository) digest() []byte {
	b := make([]byte, 32)
	for i := 0; i < 32; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], p.Uint64())
	}
	return b
}

func (p *repository) newBlob(out *rows, size int64) int64 {
	p.nextBlob++
	out.blob = append(out.blob, []any{p.nextBlob, p.digest(), size})
	return p.nextBlob
}

// body replaces the bytes of a manifest: real ones would take ten times the space, and
// searches do not read them.
var body = []byte(`{"schemaVersion":2}`)

// A manifest holds what differs between manifests; zero numbers and empty texts are
// null in the database.
type manifest struct {
	mediaType, artifactType, platform int
	kind                              string
	contentSize                       int64
	at                                time.Time
	labels, annotations               string
	subject                           []byte
	config                            int64
	layers                            []int64
}

// store makes the rows of a manifest and returns its number.
func (p *repository) store(out *rows, d []byte, m manifest) int64 {
	p.next++
	var artifactType, platform, labels, annotations, subject, config any
	if m.artifactType > 0 {
		artifactType = int32(m.artifactType)
	}
	if m.platform > 0 {
		platform = int32(m.platform)
	}
	if m.labels != "" {
		labels = m.labels
	}
	if m.annotations != "" {
		annotations = m.annotations
	}
	if m.subject != nil {
		subject = m.subject
		out.referrer = append(out.referrer, []any{p.id, m.subject, p.next, ""})
	}
	if m.config > 0 {
		config = m.config
	}
	layers := append([]int64{}, m.layers...) // never null
	out.manifest = append(out.manifest, []any{
		p.id, p.next, d, int32(m.mediaType), artifactType, m.kind, platform, int64(500 + 100*len(layers)),
		m.contentSize, m.at, m.at, labels, annotations, subject, config, layers,
	})
	out.body = append(out.body, []any{p.id, p.next, body})
	return p.next
}

// digestOf returns the digest in the row of a manifest.
func digestOf(row []any) []byte { return row[slices.Index(columns["manifest"], "digest")].([]byte) }

// labelsOf returns the labels in the row of a manifest, nil if it has none.
func labelsOf(row []any) (labels map[string]string, err error) {
	text, labelled := row[slices.Index(columns["manifest"], "labels")].(string)
	if !labelled {
		return nil, nil
	}
	err = json.Unmarshal([]byte(text), &labels)
	return labels, err
}

// image makes an image: its first layers are those of a base image, and one in two
// versions changes one of its own layers.
func (p *repository) image(out *rows, platform int, version string, at time.Time) (int64, []byte) {
	if p.layers == nil || p.Float64() < 0.1 {
		p.layers, p.layersSize = nil, 0
		first := p.base.draw(p.Rand)
		for i := range 1 + p.IntN(4) {
			p.layers = append(p.layers, int64(1+(first+i*7)%sharedLayers))
			p.layersSize += 20_000_000
		}
	}
	if p.own == nil || p.Float64() < 0.5 {
		p.ownSize = 100_000 + int64(p.ExpFloat64()*40_000_000)
		p.own = []int64{p.newBlob(out, p.ownSize)}
	}
	layers := append(slices.Clone(p.layers), p.own...)
	config := p.newBlob(out, 3000)
	d := p.digest()
	mediaType := ociImage
	if p.id%3 == 0 {
		mediaType = dockerImage
	}
	id := p.store(out, d, manifest{
		mediaType: mediaType, kind: imageKind, platform: platform, contentSize: p.layersSize + p.ownSize + 3000, at: at,
		labels: p.labels(version, at), config: config, layers: layers,
	})
	return id, d
}

func (p *repository) index(out *rows, version string, at time.Time) (int64, []byte) {
	of := []int{linuxAmd64, linuxArm64, 3, 4}[:2+p.IntN(3)]
	var digests [][]byte
	for _, platform := range of {
		_, d := p.image(out, platform, version, at)
		digests = append(digests, d)
	}
	annotations := ""
	if p.id%3 == 1 {
		annotations = `{"org.opencontainers.image.version": "` + version + `", ` +
			`"org.opencontainers.image.licenses": "` + p.licence + `"}`
	}
	d := p.digest()
	id := p.store(out, d, manifest{mediaType: ociIndex, kind: indexKind, at: at, annotations: annotations})
	for i, child := range digests {
		out.entry = append(out.entry, []any{p.id, id, int32(i), child, int32(ociImage), int32(of[i]), int64(900)})
	}
	return id, d
}

// artifact makes a chart, or a signature or SBOM of a subject.
func (p *repository) artifact(out *rows, artifactType int, subject []byte, at time.Time) (int64, []byte) {
	layer := p.newBlob(out, 20_000)
	d := p.digest()
	return p.store(out, d, manifest{
		mediaType: ociImage, artifactType: artifactType, kind: artifactKind, contentSize: 20_000, at: at,
		annotations: `{"org.opencontainers.image.created": "` + at.Format(time.RFC3339) + `"}`,
		subject:     subject, layers: []int64{layer},
	}), d
}

// labels returns four to eleven labels as JSON: values consist of letters, digits and
// characters that need no escape.
func (p *repository) labels(version string, at time.Time) string {
	const oci = "org.opencontainers.image."
	var b strings.Builder
	b.Grow(600)
	n := 0
	add := func(k, v string) {
		n++
		if b.Len() == 0 {
			b.WriteByte('{')
		} else {
			b.WriteByte(',')
		}
		b.WriteString(`"` + k + `":"` + v + `"`)
	}
	add(oci+"version", version)
	add(oci+"created", at.Format(time.RFC3339))
	add(oci+"licenses", p.licence)
	add("com.example.team", p.team)
	if p.about != "" {
		add(oci+"description", p.about)
	}
	if p.vendor != "" {
		add(oci+"vendor", p.vendor)
	}
	if p.from != "" {
		add(oci+"base.name", p.from)
	}
	if p.keeper != "" {
		add("maintainer", p.keeper)
	}
	if p.revisions {
		var revision [20]byte
		binary.LittleEndian.PutUint64(revision[:], p.Uint64())
		binary.LittleEndian.PutUint64(revision[8:], p.Uint64())
		binary.LittleEndian.PutUint32(revision[16:], p.Uint32())
		add(oci+"revision", hex.EncodeToString(revision[:]))
	}
	if p.sourced {
		add(oci+"source", "https://git.example/"+p.name)
	}
	for _, c := range p.custom[:min(len(p.custom), 11-n)] {
		add(c[0], c[1])
	}
	if p.flatpak != "" {
		add("org.flatpak.ref", p.flatpak)
		add("org.flatpak.installed-size", strconv.FormatInt(3*p.ownSize, 10))
		add("org.flatpak.download-size", strconv.FormatInt(p.ownSize, 10))
		add("org.flatpak.metadata", strings.Repeat("[Application] runtime=org.freedesktop.Platform ", 5))
	}
	b.WriteByte('}')
	return b.String()
}
