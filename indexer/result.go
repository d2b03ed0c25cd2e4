package indexer

import "time"

// A Result is one repository that a Query selects.
type Result struct {
	Repository
	Stars    int
	Official bool
	Size     int64     // bytes of the image or index that its leading tag shows
	Pulls    int64     // that were counted, without those of scanners
	Facts    []Fact    // of its images and its leading tag, sorted
	PulledAt time.Time // of the last pull; zero if none was counted
}

// Results are one page of the repositories that a Query selects, best first.
type Results struct {
	Total   int  // number of results of all pages; 0 for a query with After
	AtLeast bool // Total is a lower bound
	Items   []Result
}
