package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// SearchTimeout is how long to wait until a search finds a push.
const SearchTimeout = 10 * time.Second

// HowSearchable describes the milliseconds that Searchable returns.
const HowSearchable = "time from the registry's 201 until GET /v1/search shows the image; searched after 1 ms, " +
	"and then in pauses of a tenth of the time so far"

// Searchable returns the milliseconds from now, when the registry has answered 201 for
// a manifest, until a search for word finds the repository name.
func Searchable(ctx context.Context, client *http.Client, indexer, word, name string) (ms float64, err error) {
	stored := time.Now()
	ctx, cancel := context.WithTimeout(ctx, SearchTimeout)
	defer cancel()
	for {
		shown, err := shows(ctx, client, indexer, word, name)
		elapsed := time.Since(stored)
		if shown || err != nil {
			return Milliseconds(elapsed), err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%s not searchable after %v", name, SearchTimeout)
		case <-time.After(again(elapsed)):
		}
	}
}

// again returns the pause before the next search: 1 ms at first, later a tenth of the
// time waited. Searching without pauses would take processor time from the indexer.
func again(elapsed time.Duration) time.Duration {
	return min(max(elapsed/10, time.Millisecond), 500*time.Millisecond)
}

func shows(ctx context.Context, client *http.Client, indexer, word, name string) (bool, error) {
	names, err := Names(ctx, client, indexer, word)
	return slices.Contains(names, name), err
}

// Names returns the repositories on the first page of a search, at most 100.
func Names(ctx context.Context, client *http.Client, indexer, query string) ([]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, indexer+"/v1/search?n=100&q="+url.QueryEscape(query), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("search for %s: status %d", query, resp.StatusCode)
	}
	var answer struct{ Results []struct{ Name string } }
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil {
		return nil, err
	}
	var names []string
	for _, r := range answer.Results {
		names = append(names, r.Name)
	}
	return names, nil
}

// maxAnswer is the most bytes of a page of results: 1 MiB; a hundred results take some
// 60 kB.
const maxAnswer = 1 << 20

// UniqueWord returns a different word of the same length for each n up to 300 million.
// No word begins with another, and none is a word of made-up images or books. Words of
// close numbers differ in four letters or more: a search for one that does not exist
// yet must not find another as its correction.
func UniqueWord(n int) string {
	word := []byte("zq      ")
	n = n * 187654321 % (26 * 26 * 26 * 26 * 26 * 26) // no common factor, so all words differ
	for i := len(word) - 1; i >= 2; i-- {
		word[i] = 'a' + byte(n%26)
		n /= 26
	}
	return string(word)
}
