package memory

import (
	"strings"

	"github.com/portbook/portbook/indexer"
)

// A Row is what a copy needs of the search row of a repository.
type Row struct {
	ID        int32
	Name      string
	Pulls     int64
	PulledAt  int64 // microseconds since 1970; 0: no pull was counted
	UpdatedAt int64 // microseconds, of any epoch
	Size      int64 // bytes of what the leading tag shows
	// Words are those of the name, the title, the description and labels, in order; "" is
	// where a word does not follow the one before, as between these texts.
	Words []string
	Facts []indexer.Fact // sorted
	Terms []int64        // Hash of the facts and of the labels and annotations of its images
}

// basename returns the last path component of a name.
func basename(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// namespace returns the part of a name before the first slash, "" if there is none.
func namespace(name string) string {
	namespace, _, found := strings.Cut(name, "/")
	if !found {
		return ""
	}
	return namespace
}
