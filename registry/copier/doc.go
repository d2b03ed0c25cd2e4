// Package copier copies the content of a registry from one storage to another, with the
// registry's own drivers, beside registries that run: nothing here is in the path of a request.
//
// It copies blobs first, then the links of layers, those of manifests, and those of tags. A
// manifest is linked only after everything that it names is in the destination, and a tag only
// after its manifest. So a registry that serves the destination never shows what it cannot serve
// whole, also if the copy ends in the middle or an object cannot be copied.
//
// What is there already is not copied again, so a copy goes on where it ended. It deletes nothing
// but what it has staged itself. Only one copy to a destination should run at a time: two do no
// harm, but do the work twice.
package copier
