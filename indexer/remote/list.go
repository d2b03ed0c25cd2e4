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
	// maxPages ends a listing that a registry would continue for ever. It is
	// ten million names of a page of 1,000.
	maxPages = 10_000
)

// catalogSizes are the page sizes to try, in turn, when a page of the catalogue
// cannot be had. The stock registry panics, and drops the connection, if a page
// ends just before the parent of its last repository (distribution v3.1.2,
// registry/storage/catalog.go:40); another size ends elsewhere. It answers 400
// to more than its catalog.maxentries; 0 asks for its own default.
var catalogSizes = []int{1000, 999, 0, 97, 50, 13, 7, 3, 2}

// Repositories yields the names of all repositories, in the registry's order,
// that come after a name; "" for all. The order is a walk of paths, not that of
// bytes. It ends with the first error. A page is held in memory, the whole is
// not.
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

// catalogPage asks for one page, in other sizes if it cannot be had in one.
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
// dropped, the registry failed, or it refused the size.
func pageMayDiffer(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Status == http.StatusBadRequest || status.Status == http.StatusInternalServerError
	}
	return errors.Is(err, indexer.ErrUnavailable)
}

// Tags returns all tags of a repository, in the registry's order. It returns
// ErrNotFound if the registry knows no tag of it, which for the stock registry
// does not mean that it holds no manifest.
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

// page asks for one page of names and returns where the next one starts, "" if
// this is the last. Size 0 leaves the size to the registry.
func (c *Client) page(ctx context.Context, path, after string, size int, timeout time.Duration, into any) (next string, err error) {
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
		return "", invalid("the registry's answer to %s is no list of names", request(http.MethodGet, path))
	}
	return lastOf(resp.Header.Values("Link")), nil
}

// errCircle is the end of a listing whose pages lead back to one that was read.
func errCircle(what string) error {
	return invalid("the registry's %s leads back to a page that was read", what)
}

// nextLink matches the link to the next page in a Link header (RFC 8288, 3),
// which may hold others.
var nextLink = regexp.MustCompile(`<([^>]*)>[^<]*;\s*rel="?next"?`)

// lastOf returns the parameter "last" of the link to the next page, "" if there
// is none. The rest of the link, its host above all, is not followed.
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
