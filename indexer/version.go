package indexer

import (
	"strconv"
	"strings"
)

// A Version identifies a state of the catalogue. It changes in the same transaction as
// anything that a reader can see. States with equal versions have equal content.
type Version struct {
	Epoch string // identifies the life of the database; numbers of two epochs cannot be compared
	// Number is greater in a later state of one server. Two servers may have the
	// same number for different states for a moment: see postgres.View.Version.
	Number int64
	State  uint64 // distinguishes such states; it has no order
}

// String returns EPOCH.NUMBER.
func (v Version) String() string { return v.Epoch + "." + strconv.FormatInt(v.Number, 10) }

// ParseVersion parses the result of String. It returns ErrInvalid for anything else.
func ParseVersion(s string) (Version, error) {
	dot := strings.LastIndexByte(s, '.')
	n, err := strconv.ParseInt(s[dot+1:], 10, 64)
	if dot < 1 || err != nil || n < 0 {
		return Version{}, Invalid("%.64q is not a catalogue version: write EPOCH.NUMBER", s)
	}
	return Version{Epoch: s[:dot], Number: n}, nil
}
