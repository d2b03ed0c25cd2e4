package indexer

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// RepositoryImages are the images of one repository that a query selects,
// and the image indexes that hold such images.
type RepositoryImages struct {
	Name   string
	Images []Image // tagged themselves; in order of digest
	Lists  []ImageList
}

// An Image is what an index of images tells about one.
type Image struct {
	Digest           digest.Digest
	MediaType        string
	OS, Architecture string
	Annotations      map[string]string
	Labels           map[string]string
	Tags             []string // all of its tags, sorted; nil inside an ImageList

	// LeftOut says that the image has no place in the answer: it, or all of its
	// repository, is too large. It has no labels but FlatpakRefLabel then.
	LeftOut bool
	// RefSince is when its flatpak ref was first seen in this repository; zero if
	// that is not known.
	RefSince time.Time
}

// An ImageList is a tagged image index and those of its images that the query
// selects.
type ImageList struct {
	Digest      digest.Digest
	MediaType   string
	Annotations map[string]string
	Tags        []string
	Images      []Image
}
