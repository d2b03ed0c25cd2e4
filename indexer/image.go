package indexer

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// RepositoryImages are the images of one repository that a query selects, and the image
// indexes with such images.
type RepositoryImages struct {
	Name   string
	Images []Image // those with tags of their own, in order of digest
	Lists  []ImageList
}

// An Image is one image in flatpak's index.
type Image struct {
	Digest           digest.Digest
	MediaType        string
	OS, Architecture string
	Annotations      map[string]string
	Labels           map[string]string
	Tags             []string // all of its tags, sorted; nil inside an ImageList

	// LeftOut reports that the image is omitted from the answer, since it or its whole
	// repository is too large. Of its labels only FlatpakRefLabel is set then.
	LeftOut bool
	// RefSince is when its flatpak ref was first seen in this repository, or zero if
	// that is unknown.
	RefSince time.Time
}

// An ImageList is a tagged image index with those of its images that the query selects.
type ImageList struct {
	Digest      digest.Digest
	MediaType   string
	Annotations map[string]string
	Tags        []string
	Images      []Image
}
