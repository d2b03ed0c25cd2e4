package answer

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// etag returns the ETag of an answer from version v for an asker. It is strong, so
// it depends on the coding (RFC 9110, 8.8.3.3).
func (a *Answerer) etag(v indexer.Version, asker indexer.Asker, coding, key string) string {
	if asker != indexer.Everyone {
		key += "\x00" + asker.String()
	}
	sum := sha256.Sum256([]byte(a.build + "\x00" + coding + "\x00" + key))
	return fmt.Sprintf(`"%s.%016x.%x"`, v, v.State, sum[:4])
}

// ifNoneMatch returns the If-None-Match fields of a request that may be answered with
// 304. For methods other than GET and HEAD, RFC 9110, 13.1.2 requires another
// answer; we do not need it, because those methods change nothing here.
func ifNoneMatch(r *http.Request) []string {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil
	}
	return r.Header.Values("If-None-Match")
}

// matchETag reports whether fields, the values of If-None-Match, contain etag by
// weak comparison, or are "*". It ignores members that are not entity tags: a
// condition that cannot be read is no reason to refuse an answer.
func matchETag(fields []string, etag string) (match, star bool) {
	rest := strings.Trim(strings.Join(fields, ","), " \t")
	if rest == "*" {
		return false, true
	}
	for rest != "" {
		var tag string
		tag, rest = nextETag(rest)
		if tag == etag {
			return true, false
		}
	}
	return false, false
}

// nextETag removes the first member from a list of entity tags. It returns the tag
// without "W/", or "" if the member is not an entity tag.
func nextETag(list string) (tag, rest string) {
	list = strings.TrimLeft(list, " \t,")
	opaque := strings.TrimPrefix(list, "W/")
	if strings.HasPrefix(opaque, `"`) {
		if end := strings.IndexByte(opaque[1:], '"'); end >= 0 {
			tag, rest = opaque[:end+2], opaque[end+2:]
			after := strings.TrimLeft(rest, " \t")
			if after == "" || after[0] == ',' {
				return tag, after
			}
			list = after // text follows the quotes, so it is not an entity tag
		}
	}
	_, rest, _ = strings.Cut(list, ",")
	return "", rest
}
