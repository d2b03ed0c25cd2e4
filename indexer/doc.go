// Package indexer has the types of the book: repositories, tags, manifests, platforms,
// referrers, results of queries, and the kinds of error. The book is our copy of the
// registry's metadata in the database.
//
// The words are those of the OCI specifications (image-spec 1.1, distribution-spec
// 1.1). In identifiers, an index is an OCI image index, a label belongs to an image
// config, and an annotation belongs to a manifest or a descriptor.
//
// It has only values and pure functions. It uses no database, no HTTP and no clock, and
// imports no package of ours; the other packages import it.
package indexer
