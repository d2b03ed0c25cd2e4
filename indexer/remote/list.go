package remote

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// maxPage is the maximum size of one page of names, 32 MiB: 1,000 repository names of
	// 255 bytes are 0.3 MB, but a registry may send all tags of a repository at
	// once; 100,000 tags of 128 bytes are 13 MB.
	maxPage = 32 << 20
	// maxPages is the maximum number of pages of one listing, in case a registry never
	// ends it: 10,000, or ten million names in pages of 1,000.
	maxPages = 10_000
)

// catalogSizes are the page sizes to try, in this order, until the registry returns a
// page of the catalogue. The stock registry panics, and drops the connection, if a
// page ends just before the parent of its last repository (distribution v3.1.2,
// registry/storage/catalog.go:40); a page of another size ends elsewhere. The registry
// answers 400 to a size larger than its catalog.maxentries. 0 means its default size.
var catalogSizes = []int{1000, 999, 0, 97, 50, 13, 7, 3, 2}

// Repositories yields the names of all repositories after a name, or of all if after is
// "". They are in the registry's order, which is the order of a walk of paths and not
// that of bytes. The sequence ends after the first error. Only one page at a time is
// held in memory.
func (c *Client) Repositories(ctx context.Context, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		seen := map[string]bool{after: true}
		for range maxPages {
			names, next, err := c.catalogPage(ctx, after)
			if err != nil {
				yield("", err)
				return
			}
			for _, name := range names {
				if !yield(name, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			if seen[next] {
				yield("", errCircle("catalogue"))
				return
			}
			seen[next] = true
			after = next
		}
		yield("", invalid("the catalogue of the registry has more than %d pages", maxPages))
	}
}

// catalogPage requests one page, with another size if one fails.
func (c *Client) catalogPage(ctx context.Context, after string) (names []string, next string, err error) {
	for _, size := range catalogSizes {
		var page struct{ Repositories []string }
		next, err = c.page(ctx, "_catalog", after, size, catalogTimeout, &page)
		if err == nil || ctx.Err() != nil || !pageMayDiffer(err) {
			return page.Repositories, next, err
		}
	}
	return nil, "", err
}

// pageMayDiffer reports whether another page size could help: the connection was
// dropped, the registry answered 500, or it refused the size.
func pageMayDiffer(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Status == http.StatusBadRequest || status.Status == http.StatusInternalServerError
	}
	return errors.Is(err, indexer.ErrUnavailable)
}

// Tags returns all tags of a repository, in the registry's order. It returns
// ErrNotFound if the registry knows no tag of it; the stock registry may still hold
// manifests of it.
func (c *Client) Tags(ctx context.Context, repository string) ([]string, error) {
	var tags []string
	after := ""
	seen := map[string]bool{}
	for range maxPages {
		var page struct{ Tags []string }
		next, err := c.page(ctx, repository+"/tags/list", after, 0, requestTimeout, &page)
		if err != nil {
			return nil, err
		}
		tags = append(tags, page.Tags...)
		if next == "" {
			return tags, nil
		}
		if seen[next] {
			return nil, errCircle("list of tags of " + repository)
		}
		seen[next] = true
		after = next
	}
	return nil, invalid("the registry's list of tags of %s has more than %d pages", repository, maxPages)
}

// page requests one page of names, decodes it into the value into, and returns the
// name after which the next page starts, or "" if this is the last page. If size is 0,
// the registry chooses the size.
func (c *Client) page(
	ctx context.Context, path, after string, size int, timeout time.Duration, into any,
) (next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	query := url.Values{}
	if after != "" {
		query.Set("last", after)
	}
	if size > 0 {
		query.Set("n", strconv.Itoa(size))
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	resp, err := c.do(ctx, http.MethodGet, path, nil, http.StatusOK)
	if err != nil {
		return "", err
	}
	defer discard(resp)
	body, err := c.readAll(resp, path, maxPage)
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return "", invalid("the registry's answer to %s is not a list of names", request(http.MethodGet, path))
	}
	return lastOf(resp.Header.Values("Link")), nil
}

// errCircle returns the error of a listing with a link back to a page already read.
func errCircle(what string) error {
	return invalid("the registry's %s links back to a page that was already read", what)
}

// nextLink matches the link to the next page in a Link header (RFC 8288, 3). The header
// may hold other links.
var nextLink = regexp.MustCompile(`<([^>]*)>[^<]*;\s*rel="?next"?`)

// lastOf returns the parameter "last" of the link to the next page, or "" if there is
// none. It ignores the rest of the link, so that the link cannot name another host.
func lastOf(links []string) string {
	match := nextLink.FindStringSubmatch(strings.Join(links, ", "))
	if match == nil {
		return ""
	}
	u, err := url.Parse(match[1])
	if err != nil {
		return ""
	}
	return u.Query().Get("last")
}
