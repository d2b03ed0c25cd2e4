package web

import (
	"strings"

	"github.com/portbook/portbook/indexer"
)

// afterReferrer returns what follows after= in the address of the page after a
// referrer: DIGEST, or TAG@DIGEST.
func afterReferrer(last indexer.Referrer) string {
	if last.Tag == "" {
		return last.Digest.String()
	}
	return last.Tag + "@" + last.Digest.String()
}

// readAfterReferrer reads what afterReferrer returns; "" is before all.
func readAfterReferrer(text string, q *indexer.ReferrerQuery) (err error) {
	if text == "" {
		return nil
	}
	tag, d, found := strings.Cut(text, "@")
	if !found {
		tag, d = "", text
	}
	if q.After, err = indexer.ParseDigest(d); err != nil || found && !indexer.IsTag(tag) {
		return invalid("after", "is %.64q: follow the link to the next page as it is", text)
	}
	q.AfterTag = tag
	return nil
}

// maxReferrers is the most referrers in one answer: 1,000, some 300 KB and, as the
// book has it, 512 KiB of types and annotations. Others are
// on the next page, which a Link names (distribution-spec 1.1, "Listing
// Referrers"). Few clients follow it, so a page is as large as is harmless.
const maxReferrers = 1000
