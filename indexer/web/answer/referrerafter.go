package answer

import (
	"strings"

	"github.com/portbook/portbook/indexer"
)

// AfterReferrer returns what follows after= in the address of the page after a
// referrer: DIGEST, or TAG@DIGEST.
func AfterReferrer(last indexer.Referrer) string {
	if last.Tag == "" {
		return last.Digest.String()
	}
	return last.Tag + "@" + last.Digest.String()
}

// ReadAfterReferrer reads what AfterReferrer returns; "" is before all.
func ReadAfterReferrer(text string, q *indexer.ReferrerQuery) (err error) {
	if text == "" {
		return nil
	}
	tag, d, found := strings.Cut(text, "@")
	if !found {
		tag, d = "", text
	}
	if q.After, err = indexer.ParseDigest(d); err != nil || found && !indexer.IsTag(tag) {
		return Invalid("after", "is %.64q: follow the link to the next page as it is", text)
	}
	q.AfterTag = tag
	return nil
}

// MaxReferrers is the most referrers in one answer: 1,000, some 300 KB and, as the
// book has it, 512 KiB of types and annotations. Others are
// on the next page, which a Link names (distribution-spec 1.1, "Listing
// Referrers"). Few clients follow it, so a page is as large as is harmless.
const MaxReferrers = 1000
