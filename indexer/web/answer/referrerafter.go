package answer

import (
	"strings"

	"github.com/portbook/portbook/indexer"
)

// AfterReferrer returns the value of after= in the address of the page that follows
// a referrer: DIGEST, or TAG@DIGEST.
func AfterReferrer(last indexer.Referrer) string {
	if last.Tag == "" {
		return last.Digest.String()
	}
	return last.Tag + "@" + last.Digest.String()
}

// ReadAfterReferrer parses a value from AfterReferrer into q. "" means from the
// start.
func ReadAfterReferrer(text string, q *indexer.ReferrerQuery) (err error) {
	if text == "" {
		return nil
	}
	tag, d, found := strings.Cut(text, "@")
	if !found {
		tag, d = "", text
	}
	if q.After, err = indexer.ParseDigest(d); err != nil || found && !indexer.IsTag(tag) {
		return Invalid("after", "is %.64q: use the link to the next page unchanged", text)
	}
	q.AfterTag = tag
	return nil
}

// MaxReferrers is the maximum number of referrers in one answer: 1,000, about 300
// KB. The book also limits their types and annotations to 512 KiB. A Link field
// names the next page (distribution-spec 1.1, "Listing Referrers"). Few clients
// follow it, so a page is as large as is harmless.
const MaxReferrers = 1000
