// Package indexer holds the nouns of the book: repositories, tags, manifests,
// platforms, referrers, results of queries, and the kinds of error.
//
// The words are those of the OCI specifications (image-spec 1.1,
// distribution-spec 1.1). An index, in identifiers, is an OCI image index; a
// label is a key of an image config, an annotation one of a manifest or of a
// descriptor.
//
// It holds values and pure functions only. It knows no database, no HTTP and no
// clock, and imports nothing of ours: every other package points here.
package indexer
