// Package sweep looks at the storage of a registry, and frees what nothing uses while the
// registry runs. It reads and writes the storage with the registry's own driver, beside the
// registry: nothing here is in the path of a request.
//
// A look changes nothing. It walks the storage once and reports every blob that no link or no
// manifest uses, every manifest, and sums. It decides nothing either: the indexer collects
// looks, and says which blobs may go.
//
// The stock registry cannot be locked. A push may find a blob in the storage, and so not
// upload it, at the moment in which the blob is deleted. Therefore deletion has two orders. Trash
// moves a blob into a trash in the same storage, after it has looked again whether any
// repository links it or any manifest names it, and puts it back if a link has appeared
// meanwhile. Purge, hours later, looks once more and deletes what is in the trash.
//
// Only blobs under sha256 are ever moved: the registry stores all blobs so.
package sweep
