package indexer

import (
	"strings"
	"time"
	"unicode"

	"github.com/opencontainers/go-digest"
)

const (
	// MaxQueryLength is the most bytes of a search query that are read: 256.
	// The rest is ignored; it protects the parser and the logs (zot has the
	// same limit).
	MaxQueryLength = 256
	// MaxWords is the most words of a query that are searched for: 16. More
	// only cost the database time.
	MaxWords = 16
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

// A Query asks for repositories by words.
type Query struct {
	Text   string   // as typed, trimmed
	Words  []string // lower case; every one must match, the last also as a prefix
	Limit  int      // 1 to MaxPage
	Offset int      // 0 to MaxOffset
}

// ParseQuery reads what a person typed into a search. Any text is a query; one
// without a word in it selects everything.
func ParseQuery(text string, limit, offset int) Query {
	if len(text) > MaxQueryLength {
		text = text[:MaxQueryLength]
	}
	text = strings.TrimSpace(strings.ToValidUTF8(text, ""))
	words := Words(text)
	if len(words) > MaxWords {
		words = words[:MaxWords]
	}
	return Query{
		Text:   text,
		Words:  words,
		Limit:  min(max(limit, 1), MaxPage),
		Offset: min(max(offset, 0), MaxOffset),
	}
}

// Words cuts text into the words that are stored and searched for: lower case,
// split at everything that is neither letter nor digit, each once, in order.
func Words(text string) []string {
	var words []string
	seen := map[string]bool{}
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		if !seen[w] {
			seen[w] = true
			words = append(words, w)
		}
	}
	return words
}

// A Result is one repository that a Query selects.
type Result struct {
	Repository
	Stars    int
	Official bool
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

// A Field is what a Condition looks at.
type Field string

const (
	FieldRepository   Field = "repository"
	FieldTag          Field = "tag"
	FieldOS           Field = "os"
	FieldArchitecture Field = "architecture"
	FieldLabel        Field = "label"
	FieldAnnotation   Field = "annotation"
)

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

// A Version numbers a state of the catalogue: it changes in the same
// transaction as anything a reader can see. Equal versions are equal content;
// of two versions of one epoch neither need be the later.
type Version struct {
	Epoch  string // of the database's life; numbers of two epochs do not compare
	Number int64
}

// A Status says how well the book follows the registry.
type Status struct {
	Version   Version
	LastScan  *Scan // the last one that finished; nil before the first
	Running   *Scan // nil if none runs
	TasksDue  int
	OldestDue time.Duration // how long the oldest due task has waited
	GivenUp   int           // tasks that failed too often
	Failures  []TaskFailure // the most recent, at most 100
}

// A Scan is one look at everything.
type Scan struct {
	ID           int64
	Reason       string // start, interval, instance, command
	StartedAt    time.Time
	FinishedAt   time.Time // zero while it runs
	Listed       int       // repositories that the registry has named so far
	Repositories int       // looked at
	Tags         int       // looked at
	Changed      int       // found to differ, and asked to be read
	Errors       int       // repositories that could not be looked at
}

// A TaskFailure is a reference that could not be read.
type TaskFailure struct {
	Repository string
	Reference  string // a tag or a digest
	Attempts   int
	Error      string
	GivenUp    bool
}
