package answer

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// etag names the bytes that we write of state v for an asker. It is strong, so it differs by
// coding (RFC 9110, 8.8.3.3).
func (a *Answerer) etag(v indexer.Version, asker indexer.Asker, coding, key string) string {
	if asker != indexer.Everyone {
		key += "\x00" + asker.String()
	}
	sum := sha256.Sum256([]byte(a.build + "\x00" + coding + "\x00" + key))
	return fmt.Sprintf(`"%s.%016x.%x"`, v, v.State, sum[:4])
}

// conditions are the If-None-Match fields of a request that can be answered
// 304: RFC 9110, 13.1.2 has another answer for methods other than GET and HEAD,
// which we do not need, since ours change nothing.
func conditions(r *http.Request) []string {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil
	}
	return r.Header.Values("If-None-Match")
}

// matchETag reports whether fields, the values of If-None-Match, list etag by
// weak comparison, or are a star. What is no entity tag is passed over: a
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

// nextETag cuts the first member off a list of entity tags. The tag is without
// its mark of weakness, and "" if the member is none.
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
			list = after // something hangs on it, so it is none
		}
	}
	_, rest, _ = strings.Cut(list, ",")
	return "", rest
}
