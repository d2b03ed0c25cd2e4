package catalogue

import (
	"encoding/xml"
	"net/http"
	"net/url"

	"github.com/portbook/portbook/indexer/web/answer"
)

// openSearch is a description with which a browser can search the catalogue from its
// address bar (OpenSearch 1.1).
type openSearch struct {
	XMLName     xml.Name `xml:"http://a9.com/-/spec/opensearch/1.1/ OpenSearchDescription"`
	ShortName   string
	Description string
	Encoding    string `xml:"InputEncoding"`
	Image       openSearchImage
	URLs        []openSearchURL `xml:"Url"`
}

type openSearchImage struct {
	Type    string `xml:"type,attr"`
	Address string `xml:",chardata"`
}

type openSearchURL struct {
	Type     string `xml:"type,attr"`
	Template string `xml:"template,attr"`
}

// OpenSearch serves the description of the search. Its addresses must be absolute. If
// the configuration does not name our host, they use the Host of the request; that may
// be wrong for other clients, so caches must not store the answer.
func (s *Catalogue) OpenSearch(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	base := &url.URL{Scheme: "http", Host: r.Host}
	h.Set("Cache-Control", "no-store")
	if u, err := url.Parse(s.config.PublicURL); err == nil && u.Host != "" {
		base = &url.URL{Scheme: u.Scheme, Host: u.Host}
		h.Set("Cache-Control", answer.CacheControl(s.config.MaxAge))
	} else if r.TLS != nil {
		base.Scheme = "https"
	}
	root := base.String()
	out, err := xml.MarshalIndent(openSearch{
		ShortName: "Portbook", Description: "Images and artifacts in this registry", Encoding: "UTF-8",
		Image: openSearchImage{"image/svg+xml", root + "/static/favicon.svg"},
		URLs: []openSearchURL{
			{"text/html", root + "/?q={searchTerms}"},
			{"application/opensearchdescription+xml", root + "/opensearch.xml"},
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	h.Set("Content-Type", "application/opensearchdescription+xml")
	return answer.Write(w, append([]byte(xml.Header), out...))
}
