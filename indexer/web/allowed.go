package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// frontField is the header field by which a front proves that it is one: it has the token that
// is configured here and there.
const frontField = "X-Front-Token"

// frontCounts is how long a front counts as one that asks: a day. It asks only when somebody
// pushes or deletes, so a shorter time would deny it on a quiet day; without a limit, one that was
// configured to ask no more would count until this process ends.
const frontCounts = 24 * time.Hour

// fromFront reports whether a request comes from a front, and notes that it asks. Nobody else
// knows the token, so no stranger can make the status say that a front asks.
func (k *protector) fromFront(r *http.Request) bool {
	if k.FrontToken == "" {
		return false
	}
	got, want := sha256.Sum256([]byte(r.Header.Get(frontField))), sha256.Sum256([]byte(k.FrontToken))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return false
	}
	k.asked.Store(time.Now().Unix())
	return true
}

// allowed answers a front, such as nginx with auth_request, that asks whether it may pass a
// request on to the registry: 204 if so, 403 if not, or not without a look at the manifest. The
// front says which request by X-Original-Method and X-Original-URI, and sends its Authorization.
//
// A manifest is not sent here. So the answer is 403 for every push to a protected tag that exists;
// a front may then hand the request itself over to this program, which compares the manifest: see
// withFront. Only that is recorded, since the same manifest passes in the end.
func (k *protector) allowed(w http.ResponseWriter, r *http.Request) error {
	if !k.fromFront(r) {
		if r.Header.Get(frontField) != "" {
			k.wrongToken.Do(func() {
				k.config.Log.WarnContext(r.Context(), "a request to /v2-allowed has another token than front.token",
					"client", r.RemoteAddr)
			})
		}
		return answer.ErrNothingHere
	}
	u, err := url.ParseRequestURI(r.Header.Get("X-Original-URI"))
	method := r.Header.Get("X-Original-Method")
	if err != nil || method == "" {
		return answer.Refuse(http.StatusBadRequest, "a front sends X-Original-Method and X-Original-URI")
	}
	w.Header().Set("Cache-Control", "no-store")
	if leavesV2(u.Path) {
		writeRegistryError(w, http.StatusForbidden, "NAME_INVALID", leaves)
		return nil
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
	why := ""
	ask, err := k.concerned(r, all, c)
	if err == nil && ask {
		why, err = k.why(r.Context(), all, c)
	}
	switch {
	case err != nil:
		return err
	case why == "": // it may be done, or the registry refuses it
		w.WriteHeader(http.StatusNoContent)
		return nil
	case c.pushes() && refused(all, c) == "":
		why += " (this front does not see whether the manifest is the same: if it is, nothing needs to be pushed)"
	}
	writeRegistryError(w, http.StatusForbidden, "DENIED", why)
	return nil
}

// withFront passes requests below /v2/ that a front hands over to registry, and all others to
// others.
func (k *protector) withFront(registry, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v2/") && k.fromFront(r) {
			r.Header.Del(frontField) // a secret that the registry need not know
			registry.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}

// levels says how far what is protected is kept in this process, and why not further.
func (k *protector) levels() []indexer.ProtectionLevel {
	if k.Keeper == nil {
		return nil
	}
	token := indexer.ProtectionLevel{Name: "token", Active: k.config.Login != nil && k.config.Login.Signer != nil,
		Text: fmt.Sprintf("no token for the registry allows to push to what is frozen or over its quota; a token of before"+
			" is valid for up to %d minutes; tokens know no tags", int(access.RegistryTokenLife.Minutes()))}
	if !token.Active {
		token.Text = "auth.keys is not set, so the registry does not ask us who may push"
	}
	back := indexer.ProtectionLevel{Name: "put back", Active: true,
		Text: "a protected tag that was moved or deleted all the same is put back when an event or a scan shows it, at most" +
			" 5 times within a day; until then the registry serves what was pushed"}
	return []indexer.ProtectionLevel{token, k.frontLevel(time.Now()), back}
}

// frontLevel says whether something before the registry refuses what is protected, as far as this
// process can know. It never says so of a front that might no longer ask.
func (k *protector) frontLevel(now time.Time) indexer.ProtectionLevel {
	front := indexer.ProtectionLevel{Name: "front"}
	last := time.Unix(k.asked.Load(), 0)
	at := last.UTC().Format(time.RFC3339)
	switch {
	case k.config.RegistryProxy != nil:
		front.Active = true
		front.Text = "the proxy of this process (components.registry_proxy) refuses pushes and deletions of what is" +
			" protected, and lets the same manifest through; who reaches the registry by another way is not refused"
	case k.FrontToken == "":
		front.Text = "components.registry_proxy is false, and front.token is not set, so no front can ask this process"
	case last.Unix() == 0:
		front.Text = "front.token is set, but no front with it has asked this process since it started: it asks before each" +
			" push and deletion, so the next one will show"
	case now.Sub(last) > frontCounts:
		front.Text = "no front with front.token has asked this process since " + at + ": either nobody has pushed since" +
			" then, or the front asks no more"
	default:
		front.Active = true
		front.Text = "a front with front.token asks before each push and deletion, last at " + at + ", and refuses those of" +
			" what is protected; who reaches the registry by another way is not refused"
	}
	return front
}
