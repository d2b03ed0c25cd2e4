package indexer

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// A Yank takes a tag, an image or a repository back without deleting it: searches and lists of
// what can be installed leave it out, and whoever names it can still pull it.
type Yank struct {
	Repository string
	Tag        string        // whatever it shows; "": not a tag
	Digest     digest.Digest // whatever tags show it; "": not an image. Without Tag too: the whole repository
	Deprecated bool          // the repository is deprecated, with a Reason, and not yanked
	Reason     string
	Actor      string // who did it
	CreatedAt  time.Time
}

// Limits of yanks.
const (
	MaxYanks      = 1000 // in one repository; one of a whole repository is always possible
	MaxYankReason = 200  // characters
)

// Target returns what is yanked, such as team/app:v1.
func (y Yank) Target() string {
	switch {
	case y.Tag != "":
		return y.Repository + ":" + y.Tag
	case y.Digest != "":
		return y.Repository + "@" + y.Digest.String()
	}
	return y.Repository
}

// Verb returns "yanked" or "deprecated".
func (y Yank) Verb() string {
	if y.Deprecated {
		return "deprecated"
	}
	return "yanked"
}

// Check returns ErrInvalid unless y can be.
func (y Yank) Check() error {
	n := len([]rune(y.Reason))
	switch {
	case !IsRepository(y.Repository):
		return InvalidRepository(y.Repository)
	case y.Tag != "" && y.Digest != "":
		return Invalid("a tag and a digest exclude each other: give one, or none for the whole repository")
	case y.Tag != "" && !IsTag(y.Tag):
		return InvalidTag(y.Tag)
	case y.Deprecated && (y.Tag != "" || y.Digest != ""):
		return Invalid("only a whole repository is deprecated: yank the tag or the image instead")
	case y.Deprecated && y.Reason == "":
		return Invalid("a deprecated repository needs a reason: write what people should use instead")
	case n > MaxYankReason:
		return Invalid("the reason has %d characters: it may have at most %d", n, MaxYankReason)
	case !IsLine(y.Reason):
		return Invalid("the reason must be one line of text")
	}
	if y.Digest != "" {
		_, err := ParseDigest(string(y.Digest))
		return err
	}
	return nil
}
