package indexer

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// A Pull is one GET of a manifest, as an event of the registry reports it.
type Pull struct {
	ID         string // of the event
	At         time.Time
	Repository string
	Tag        string // "" if it was pulled by digest
	Digest     digest.Digest
	By         ClientKind
}

// A ClientKind says what kind of client pulls or pushes. No name is stored with it.
type ClientKind string

const (
	ByAnonymous ClientKind = "anonymous" // without a login
	ByPerson    ClientKind = "person"    // with an account and its password, or another login of the registry
	ByToken     ClientKind = "token"     // with a token of a person or of a robot
	ByWorkload  ClientKind = "workload"  // with a token of an issuer that a robot trusts
	ByScanner   ClientKind = "scanner"   // whatever its login: by its user agent
)

// ClientKinds are all kinds of clients. The place of a kind is its number in the database.
var ClientKinds = []ClientKind{ByAnonymous, ByPerson, ByToken, ByWorkload, ByScanner}

// A Counting says what the counts of pulls include.
type Counting struct {
	// Since is when counting began: pulls before are unknown. It is zero if no event of a pull
	// has arrived yet, so that nothing is known. It begins again if no such event arrived for
	// a week, since the registry may not have sent them.
	Since time.Time
	// Until is when the counts last changed; zero if they never have.
	Until time.Time
	// HeardAt is when the last event of a pull arrived, of any client, also of our own reads;
	// a minute less exact.
	HeardAt time.Time
	// StaleSince is zero if the counts are up to date, but for some minutes. Otherwise pulls
	// that arrived since then are stored and not yet counted.
	StaleSince time.Time
}

// Counts are numbers of pulls and pushes. Pulls of scanners are in ScannerPulls alone.
type Counts struct {
	Pulls        int64
	ScannerPulls int64
	Pushes       int64 // of tags
}

// A LastPull says how often something was pulled, and when last: the zero time if no pull was
// counted. It ignores pulls of scanners.
type LastPull struct {
	Pulls int64
	At    time.Time
}

// LastPulls says when tags and manifests of a repository were last pulled. Those that were
// not have a zero LastPull.
type LastPulls struct {
	Counting
	Tags    map[string]LastPull        // by the name of the tag
	Digests map[digest.Digest]LastPull // by any tag, or by the digest
}

// A UsageQuery asks for the usage of a repository, or of one of its tags or manifests.
type UsageQuery struct {
	Repository string
	Tag        string        // "": any
	Digest     digest.Digest // "": any
	Days       int           // to return, the last ones up to Counting.Until
}

// A Usage says how often something was pulled and pushed.
type Usage struct {
	Counting
	Counts             // since counting began
	PulledAt time.Time // by a client that is no scanner; zero if no such pull was counted
	// Days are those days of the query on which something was counted, in order.
	Days []UsageDay
}

// A UsageDay has the counts of one day, in UTC.
type UsageDay struct {
	Day time.Time
	Counts
	By map[ClientKind]int64 // pulls by each kind of client that has any
}
