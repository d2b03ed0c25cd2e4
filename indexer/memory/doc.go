// Package memory holds a copy of what searches need of a book in the memory of a reader,
// and answers from it: which repositories a query selects, in which order and how many,
// the facets, suggestions, and words that are spelled similarly.
//
// A Copy has the repositories in segments of at most 65,536 documents. A segment is built
// once from rows and never changes. It has a dictionary of words, one of facts and one of
// the terms of labels and annotations; each entry lists the documents that have it. To
// evaluate a query, the lists of its words are turned into sets of bits, and these are
// combined. A count is the number of bits, and what an asker may not see is left out by
// one more AND, so counts are exact at any size and for every asker. For phrases it also has
// the words of each document in order.
//
// When repositories change, their documents are taken out of the sets of live documents,
// and a new small segment has what they are now. Small segments are merged into larger
// ones from time to time.
//
// A State is a copy at one Vector, the numbers of the catalogue version. It never changes:
// the next state has other segments, and shares nearly all of them. Copy.At returns the
// state of the snapshot of a request, after it has taken in what changed since the newest
// one. So an answer belongs to the state that its ETag names, as if it came from the
// database.
//
// A row tells what any image of a repository has. The shelf of a segment, the only part of
// it that changes, tells what each image has, as far as it was read: its facts, and the keys
// and values of its labels and annotations. So it decides several conditions on one image.
// It is filled after the copy is ready, since there are some ten times as many images as
// repositories.
//
// Some conditions cannot be decided here: on tags and digests, on rare values of labels. A
// set of Matches then says which repositories match for certain and which may match, and
// the caller asks the database about the latter.
package memory
