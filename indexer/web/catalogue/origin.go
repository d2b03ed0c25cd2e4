package catalogue

import (
	"strings"

	"github.com/portbook/portbook/indexer/web/answer"
)

// An origin is one piece of information about where an image comes from.
type origin struct{ Name, Text, Address string }

// originKeys are the annotations and labels for origins, with the keys of image-spec
// 1.1 and label-schema.org, in the order in which they are shown.
var originKeys = []struct {
	name string
	keys []string
}{
	{"Source", []string{"org.opencontainers.image.source", "org.label-schema.vcs-url"}},
	{"Documentation", []string{"org.opencontainers.image.documentation", "org.label-schema.usage"}},
	{"Home page", []string{"org.opencontainers.image.url", "org.label-schema.url"}},
	{"Licences", []string{"org.opencontainers.image.licenses", "org.label-schema.license"}},
	{"Vendor", []string{"org.opencontainers.image.vendor", "org.label-schema.vendor"}},
	{"Authors", []string{"org.opencontainers.image.authors"}},
	{"Version", []string{"org.opencontainers.image.version", "org.label-schema.version"}},
	{"Revision", []string{"org.opencontainers.image.revision", "org.label-schema.vcs-ref"}},
	{"Base image", []string{"org.opencontainers.image.base.name"}},
}

// maxOrigin is the most runes of one origin on a page: 200. Origins are names and
// addresses.
const maxOrigin = 200

// originOf returns, for each origin, the first value that is not empty, key by key.
func originOf(metadata ...map[string]string) (list []origin) {
	for _, o := range originKeys {
		if value := firstValue(o.keys, metadata); value != "" {
			text := answer.Cut(strings.TrimPrefix(value, "https://"), maxOrigin)
			list = append(list, origin{Name: o.name, Text: text, Address: httpURL(value)})
		}
	}
	return list
}

func firstValue(keys []string, metadata []map[string]string) string {
	for _, k := range keys {
		for _, m := range metadata {
			if v := strings.TrimSpace(m[k]); v != "" {
				return v
			}
		}
	}
	return ""
}
