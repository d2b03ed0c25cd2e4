package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf16"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// deniedField is the header field of an answer to a front, with the reason, which the front puts
// into a JSON string as it is.
const deniedField = "X-Denied"

// allowed answers a front, such as nginx with auth_request, that asks whether it may pass a
// request on to the registry: 204 if so, 403 with the reason if not. The front says which request
// by X-Original-Method and X-Original-URI, and sends its Authorization.
//
// It does not see the manifest that is pushed, so it refuses every push to a protected tag that
// exists, even of the same manifest.
func (k *protector) allowed(w http.ResponseWriter, r *http.Request) error {
	u, err := url.ParseRequestURI(r.Header.Get("X-Original-URI"))
	method := r.Header.Get("X-Original-Method")
	if err != nil || method == "" {
		return answer.Refuse(http.StatusBadRequest, "a front sends X-Original-Method and X-Original-URI")
	}
	w.Header().Set("Cache-Control", "no-store")
	if leavesV2(u.Path) {
		return k.denyFront(w, "a name, tag or digest must not begin with a dot or contain % or \\")
	}
	c, writes := writeOf(method, u.Path)
	if !writes {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	all, err := k.Keeper.Now(r.Context())
	if err != nil {
		return err
	}
	why, err := k.why(r.Context(), all, c)
	tell := false
	if err == nil && why != "" {
		tell, err = k.mayKnow(r, c.repository)
	}
	if err != nil {
		return err
	}
	if !tell {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if c.tag != "" && !c.deletes && refused(all, c) == "" {
		why += " (this front cannot see whether the manifest is the same: if it is, nothing needs to be pushed)"
	}
	k.recordDenied(r, c, why)
	return k.denyFront(w, why)
}

func (k *protector) denyFront(w http.ResponseWriter, why string) error {
	w.Header().Set(deniedField, inJSON(why))
	writeRegistryError(w, http.StatusForbidden, "DENIED", why)
	return nil
}

// inJSON returns a text as the inside of a JSON string, in ASCII.
func inJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r >= ' ' && r <= '~':
			b.WriteRune(r)
		default:
			for _, half := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04x`, half)
			}
		}
	}
	return b.String()
}

// levels says how far what is protected is kept in this process, and why not further.
func (c Config) levels() []indexer.ProtectionLevel {
	if c.Protection.Keeper == nil {
		return nil
	}
	token := indexer.ProtectionLevel{Name: "token", Active: c.Login != nil && c.Login.Signer != nil,
		Text: fmt.Sprintf("no token for the registry allows to push to what is frozen or over its quota; a token of before"+
			" is valid for up to %d minutes; tokens know no tags", int(access.RegistryTokenLife.Minutes()))}
	if !token.Active {
		token.Text = "auth.keys is not set, so the registry does not ask us who may push"
	}
	front := indexer.ProtectionLevel{Name: "front", Active: c.RegistryProxy != nil,
		Text: "the proxy of this process (components.registry_proxy) refuses pushes and deletions of what is protected, and" +
			" lets the same manifest through; who reaches the registry by another way is not refused"}
	if !front.Active {
		// Anybody can ask /v2-allowed, so that it was asked proves nothing.
		front.Text = "components.registry_proxy is false; a front that asks /v2-allowed refuses too, which this process" +
			" cannot know"
	}
	back := indexer.ProtectionLevel{Name: "put back", Active: true,
		Text: "a protected tag that was moved or deleted all the same is put back when an event or a scan shows it, at most" +
			" 5 times within a day; until then the registry serves what was pushed"}
	return []indexer.ProtectionLevel{token, front, back}
}
