package indexer

import (
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/opencontainers/go-digest"
)

const (
	// MaxQueryLength is the most bytes of a search query: 1,024, room for a
	// dozen conditions and a digest or two. It protects the parser and the logs.
	MaxQueryLength = 1024
	// MaxTerms is the most terms of a query: 32. More only cost the database
	// time.
	MaxTerms = 32
	// MinDigits is the least of a digest that it can be found by: 6, of which
	// there are 16 million; docker shows 12.
	MinDigits = 6
	// MaxStars is how many stars a pattern may have: 8, twice what anybody has a use
	// for. Each makes the comparison with a text longer.
	MaxStars = 8
	// MaxNumber is the largest number in a query: 2^53, up to where a JSON
	// number is exact everywhere.
	MaxNumber = 1 << 53
	// MaxPage is the most results in one answer: 100, what the docker client
	// may ask for (moby daemon/pkg/registry/search.go).
	MaxPage = 100
	// MaxOffset is how deep ranked results can be paged: 1,000. Each page costs
	// as much as all pages before it.
	MaxOffset = 1000
)

// MaxTotal is up to where results are counted exactly: 10,000. Beyond, the
// number says "at least", and nobody pages there.
const MaxTotal = 10_000

// A Query asks for repositories: every clause must hold. ParseQuery reads it
// from text.
type Query struct {
	Text    string   // as typed, trimmed
	Clauses []Clause // none: everything
	Name    string   // what it would be as a name: lower case, words that stand alone joined by "-"; "" if it is none
	Sort    Sort
	Limit   int    // 1 to MaxPage
	Offset  int    // 0 to MaxOffset
	After   string // of SortName: only names behind this one, and they are not counted
}

// Page gives q for one page of results, limit and offset brought into their
// bounds.
func (q Query) Page(limit, offset int) Query {
	q.Limit, q.Offset = min(max(limit, 1), MaxPage), min(max(offset, 0), MaxOffset)
	return q
}

// AgeFrom is the moment that the first age in q ("created:<30d") reaches back to,
// zero if there is none. Of one text it tells apart the minutes in which it was
// read, and so what it asks for.
func (q Query) AgeFrom() time.Time {
	for _, c := range q.Clauses {
		for _, t := range c {
			if t.Age {
				return t.From
			}
		}
	}
	return time.Time{}
}

// A Sort is an order of results. The zero one is by relevance, and by the latest
// change where a query has no words.
type Sort string

const (
	SortRelevance Sort = ""
	SortName      Sort = "name"
	SortUpdated   Sort = "updated" // latest first
	SortSize      Sort = "size"    // largest first
	SortPulls     Sort = "pulls"   // most first
)

// A Clause holds if any of its terms does.
type Clause []Term

// A Term is one condition. The clauses of which every term is about images (tag
// to pushed) and none is negated must hold for one and the same image: a tagged
// one of the repository, or one in a tagged image index of it.
type Term struct {
	Not   bool // the repository must have nothing for which the rest holds
	Field Field

	// Of FieldText: lower-case words, all of which must be there.
	Words  []string
	Phrase bool   // one behind the other
	Prefix bool   // the last may be the beginning of a longer word
	Tag    string // and this tag, for a pasted "name:tag"; else ""

	Name   string // of the label or annotation; * stands for any characters
	Value  string // the same; of a digest "sha256:" and its first digits
	Valued bool   // a label or annotation must have Value, not only be there

	Compare  Comparison // of size, layers, created and pushed
	Number   int64      // bytes or layers
	From, To time.Time  // the span that a date names, To not in it; both the same for a moment
	Age      bool       // whether From is counted from the present
}

// A Comparison is an operator between a field and a number or time.
type Comparison string

const (
	Equal   Comparison = "="
	Above   Comparison = ">"
	AtLeast Comparison = ">="
	Below   Comparison = "<"
	AtMost  Comparison = "<="
)

// Words cuts text into the words that are stored and searched for: lower case,
// split at everything that is neither letter nor digit, each once, in order.
func Words(text string) []string {
	var words []string
	seen := map[string]bool{}
	for _, w := range strings.FieldsFunc(strings.ToLower(text), isNoWord) {
		if !seen[w] {
			seen[w] = true
			words = append(words, w)
		}
	}
	return words
}

func isNoWord(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }

// A Result is one repository that a Query selects.
type Result struct {
	Repository
	Stars    int
	Official bool
	Size     int64    // bytes of what its leading tag shows
	Pulls    int64    // 0 until they are counted
	Facts    []string // what it is, in words of the query language: "platform:linux/arm64", "has:sbom"
}

// Results are one page of what a Query selects, best first.
type Results struct {
	Total int // of all pages; at MaxTotal, at least that many
	Items []Result
}

// A Condition is one term of an ImageQuery.
type Condition struct {
	Field  Field
	Name   string // of the label or annotation
	Op     Op
	Values []string // any of them will do
}

// A Field is what a Condition or a Term looks at.
type Field string

const (
	FieldText       Field = "" // words of names, titles, descriptions and labels
	FieldRepository Field = "repository"
	FieldNamespace  Field = "namespace"
	FieldHas        Field = "has"
	FieldIs         Field = "is"
	FieldLicence    Field = "licence" // as Licence gives it
	FieldDigest     Field = "digest"

	// Of a tagged image, or of one in a tagged image index:
	FieldTag          Field = "tag"
	FieldOS           Field = "os"
	FieldArchitecture Field = "architecture"
	FieldPlatform     Field = "platform"
	FieldType         Field = "type"
	FieldLabel        Field = "label"
	FieldAnnotation   Field = "annotation"
	FieldSize         Field = "size"
	FieldLayers       Field = "layers"
	FieldCreated      Field = "created"
	FieldPushed       Field = "pushed"
)

// fieldNames are how fields are written in a query.
var fieldNames = map[string]Field{
	"repo": FieldRepository, "repository": FieldRepository, "namespace": FieldNamespace, "ns": FieldNamespace,
	"has": FieldHas, "is": FieldIs, "licence": FieldLicence, "license": FieldLicence, "digest": FieldDigest, "tag": FieldTag, "os": FieldOS,
	"arch": FieldArchitecture, "architecture": FieldArchitecture, "platform": FieldPlatform, "type": FieldType,
	"label": FieldLabel, "annotation": FieldAnnotation, "size": FieldSize, "layers": FieldLayers,
	"created": FieldCreated, "pushed": FieldPushed,
}

// fieldForms show how the value of a field is written, for messages.
var fieldForms = map[Field]string{
	FieldRepository: "repo:team/app or repo:team/*", FieldNamespace: "namespace:team",
	FieldHas: "has:signature, has:sbom, has:attestation, has:provenance or has:referrer", FieldIs: "is:multiarch or is:tagged",
	FieldLicence: "licence:MIT or licence:Apache-*",
	FieldDigest:  "digest:sha256:0123ab", FieldTag: "tag:latest or tag:v1.*",
	FieldOS: "os:linux", FieldArchitecture: "arch:arm64", FieldPlatform: "platform:linux/arm64",
	FieldType:  "type:image, type:index, type:artifact or an artifact type such as type:application/spdx+json",
	FieldLabel: `label:key, label:key=value or label:"a=key"=value`, FieldAnnotation: `annotation:key, annotation:key=value or annotation:"a=key"=value`,
	FieldSize: "size:>100MB", FieldLayers: "layers:<5",
	FieldCreated: "created:>2026-01-31 or created:<30d", FieldPushed: "pushed:>2026-01-31 or pushed:<30d",
}

// fieldValues are all that has: and is: may ask.
var fieldValues = map[Field][]string{
	FieldHas: {"sbom", "signature", "attestation", "provenance", "referrer"},
	FieldIs:  {"tagged", "multiarch"},
}

// An Op is how a Condition compares.
type Op string

const (
	OpEquals  Op = "equals"  // exact and case-sensitive
	OpExists  Op = "exists"  // the label or annotation is there, whatever its value
	OpMatches Op = "matches" // a glob: * is any run of characters, ? any one
)

// An ImageQuery asks for tagged images; every condition must hold for the image
// itself. It is what flatpak's index protocol asks.
type ImageQuery []Condition

// RepositoryImages are the images of one repository that an ImageQuery selects,
// and the image indexes that hold such images.
type RepositoryImages struct {
	Name   string
	Images []Image // tagged themselves; in order of digest
	Lists  []ImageList
}

// An Image is what an index of images tells about one.
type Image struct {
	Digest           digest.Digest
	MediaType        string
	OS, Architecture string
	Annotations      map[string]string
	Labels           map[string]string
	Tags             []string // all of its tags, sorted; nil inside an ImageList

	// LeftOut says that the image has no place in the answer: it, or all of its
	// repository, is too large. It has no labels but FlatpakRefLabel then.
	LeftOut bool
	// RefSince is when its flatpak ref was first seen in this repository; zero if
	// that is not known.
	RefSince time.Time
}

// An ImageList is a tagged image index and those of its images that the query
// selects.
type ImageList struct {
	Digest      digest.Digest
	MediaType   string
	Annotations map[string]string
	Tags        []string
	Images      []Image
}

// A Version names a state of the catalogue: it changes in the same transaction as
// anything a reader can see. Equal versions are equal content.
type Version struct {
	Epoch string // of the database's life; numbers of two epochs do not compare
	// Number is greater in a later state of one server. Two servers may have the
	// same number for different states for a moment: see View.Version.
	Number int64
	State  uint64 // tells such states apart; it has no order
}

// String returns EPOCH.NUMBER.
func (v Version) String() string { return v.Epoch + "." + strconv.FormatInt(v.Number, 10) }

// ParseVersion reads what String gives. It returns ErrInvalid for anything else.
func ParseVersion(s string) (Version, error) {
	dot := strings.LastIndexByte(s, '.')
	n, err := strconv.ParseInt(s[dot+1:], 10, 64)
	if dot < 1 || err != nil || n < 0 {
		return Version{}, Invalid("%.64q is no catalogue version: write EPOCH.NUMBER", s)
	}
	return Version{Epoch: s[:dot], Number: n}, nil
}

// A Status says how well the book follows the registry.
type Status struct {
	Version   Version
	LastScan  *Scan // the last one that finished; nil before the first
	Running   *Scan // nil if none runs
	Waiting   *Scan // asked for, and begun by nobody yet; nil if none is
	TasksDue  int
	OldestDue time.Duration // how long the oldest due task has waited
	GivenUp   int           // tasks that failed too often
	Failures  []TaskFailure // the most recent, at most 100

	Instance      string    // the registry's process that was the last to send its first event; "" if none ever did
	InstanceSince time.Time // when that came
}

// An Overview says what is in the book, and when it is looked after.
type Overview struct {
	Repositories int // that have a tag
	Tags         Count
	Manifests    Count
	LastEvent    time.Time     // when the last one came; zero if none is kept
	ScansEvery   time.Duration // from the beginning of a scan to when the last that began by itself was due; 0 if none is remembered
}

// A Count is how many there are, or about how many.
type Count struct {
	N     int
	About bool // it was not counted: the database estimates it
}

// A Scan is one look at everything.
type Scan struct {
	ID           int64
	Reason       string // start, interval, instance, command
	AskedAt      time.Time
	StartedAt    time.Time
	FinishedAt   time.Time // zero while it runs
	Listed       int       // repositories that the registry has named so far
	Repositories int       // looked at
	Tags         int       // looked at
	Changed      int       // found to differ, and asked to be read
	Errors       int       // repositories that could not be looked at
	Problem      string    // why it could not go on, while it is so
}

// A TaskFailure is a reference that could not be read.
type TaskFailure struct {
	Repository string
	Reference  string // a tag or a digest
	Attempts   int
	Error      string
	GivenUp    bool
}
