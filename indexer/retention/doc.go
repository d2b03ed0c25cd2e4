// Package retention decides which tags and manifests of a repository are deleted by rules.
//
// It is a pure function of the rules and of what is known of a repository: Decide returns for
// each tag and each manifest whether it goes, and why. It reads nothing, has no clock and
// changes nothing.
//
// What it promises, whatever the rules say:
//
//   - Keep beats delete, and what no rule selects stays.
//   - A protected tag stays, and so does what it shows.
//   - What runs in a cluster stays, with the indexes that list it and, of an index, its images.
//   - As long as an index stays, so do the manifests that it lists.
//   - As long as a manifest stays, so does all that is attached to it, also indirectly.
//   - What is not known counts in favour of keeping: see Span.
package retention
