package sweep

import "time"

// A Line is one line of an answer, in JSON. One of its fields is set.
type Line struct {
	Blob     *Blob     `json:"blob,omitempty"`
	Manifest *Manifest `json:"manifest,omitempty"`
	Problem  *Problem  `json:"problem,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
	Done     *Done     `json:"done,omitempty"`
	Summary  *Summary  `json:"summary,omitempty"` // the last line of a look that saw everything
	End      bool      `json:"end,omitempty"`     // the last line of an order
	Error    string    `json:"error,omitempty"`   // the last line of what failed
}

// A Blob is a blob that is not both linked and used, or that is in the trash.
type Blob struct {
	Digest   string    `json:"digest"`
	Stored   bool      `json:"stored"`            // its data is in its place
	Size     int64     `json:"size"`              // bytes of the data
	Modified time.Time `json:"modified,omitzero"` // of the data; a push of what is there does not change it
	Linked   bool      `json:"linked"`            // some repository links it, as a layer, config or manifest
	Used     bool      `json:"used"`              // it is a manifest, or a manifest in the storage names it
	Trashed  time.Time `json:"trashed,omitzero"`  // when it was moved to the trash
}

// A Manifest is a manifest that a repository links.
type Manifest struct {
	Repository string `json:"repository"`
	Digest     string `json:"digest"`
}

// A Problem is a file that could not be used, or a directory that could not be listed.
type Problem struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Progress says how far a walk has come.
type Progress struct {
	Files int64 `json:"files"`
}

// A Summary is what a look saw.
type Summary struct {
	Begin     time.Time `json:"begin"`
	Seconds   float64   `json:"seconds"`
	Blobs     int64     `json:"blobs"` // whose data are in their places
	Bytes     int64     `json:"bytes"`
	Links     int64     `json:"links"`     // of layers, configs and manifests
	Manifests int64     `json:"manifests"` // links of manifests
	// Uploads without a write for the grace period; younger ones may be under way.
	AbandonedUploads int64 `json:"abandoned_uploads"`
	AbandonedBytes   int64 `json:"abandoned_bytes"`
	ActiveUploads    int64 `json:"active_uploads"`
	// Unreadable is how many manifests and links could not be read. What they name may be
	// reported as unused. At most maxProblems of them have a line.
	Unreadable int64 `json:"unreadable"`
	// Blind says why nothing may be deleted: links may exist that the look did not see.
	Blind string `json:"blind,omitempty"`
}

// An Outcome is what became of a blob that an order names.
type Outcome string

const (
	Trashed  Outcome = "trashed"  // it is in the trash now
	Deleted  Outcome = "deleted"  // its data are deleted
	Restored Outcome = "restored" // it is in its place again
	Kept     Outcome = "kept"     // nothing was done, for the reason
	Absent   Outcome = "absent"   // there is nothing to do it to
	Failed   Outcome = "failed"   // the storage refused
)

// Done says what became of a blob. An order may report a blob twice: trashed, and then
// restored.
type Done struct {
	Digest  string  `json:"digest"`
	Outcome Outcome `json:"outcome"`
	Size    int64   `json:"size,omitempty"`
	Reason  string  `json:"reason,omitempty"`
}

// An Order names blobs that may be trashed, purged or restored, or are linked again.
type Order struct {
	Repository string   `json:"repository,omitempty"` // in which Relink links
	Digests    []string `json:"digests"`
	// Seconds is the minimum age: of the data for trash, of the stay in the trash for purge. The
	// sweeper has a minimum of its own, which wins if it is longer.
	Seconds float64 `json:"seconds"`
	// Since is an hour before the last look whose manifests the client knows: only manifests
	// linked later are read again. The zero time means that all are.
	Since time.Time `json:"since,omitzero"`
}
