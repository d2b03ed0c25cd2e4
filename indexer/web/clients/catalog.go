package clients

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/portbook/portbook/indexer/web/answer"
)

// maxCatalog is the maximum number of names in one answer of the catalogue, and their number
// if the client does not say how many it wants: 1,000, as in the registry.
const maxCatalog = 1000

// Catalog serves GET /v2/_catalog (distribution's HTTP API V2): the names of the repositories
// that have a tag and that the client may pull.
func (s *Clients) Catalog(w http.ResponseWriter, r *http.Request) error {
	values := r.URL.Query()
	n := maxCatalog
	if text := values.Get("n"); text != "" {
		number, err := strconv.Atoi(text)
		if err != nil || number < 1 {
			return answer.Invalid("n", "is %.16q: write a number from 1 to %d", text, maxCatalog)
		}
		n = min(number, maxCatalog)
	}
	next := ""
	as := answer.Form{ContentType: "application/json", MaxAge: s.config.MaxAge, Gzip: true}
	as.Headers = func(h http.Header) {
		if next != "" {
			h.Set("Link", "<"+next+`>; rel="next"`)
		}
	}
	return s.answerer.Answer(w, r, as, func(b answer.Book, out io.Writer) error {
		names, err := b.Names(r.Context(), values.Get("last"), n+1)
		if err != nil {
			return err
		}
		if next = ""; len(names) > n {
			names = names[:n]
			next = "/v2/_catalog?" + url.Values{"last": {names[n-1]}, "n": {strconv.Itoa(n)}}.Encode()
		}
		return json.NewEncoder(out).Encode(map[string][]string{"repositories": append([]string{}, names...)})
	})
}
