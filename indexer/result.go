package indexer

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
