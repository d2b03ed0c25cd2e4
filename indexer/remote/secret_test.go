package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/remote"
)

// secret is in the URLs, headers and bodies of failing servers.
const secret = "hunter2secret"

// reads has a call of each method of a Client. TestNoSecretIsShown fails if one is
// missing.
var reads = map[string]func(context.Context, *remote.Client) error{
	"DeleteBlob": func(ctx context.Context, c *remote.Client) error {
		return c.DeleteBlob(ctx, "app", digest.FromString("x"))
	},
	"DeleteManifest": func(ctx context.Context, c *remote.Client) error {
		return c.DeleteManifest(ctx, "app", digest.FromString("x"))
	},
	"DeleteTag": func(ctx context.Context, c *remote.Client) error { return c.DeleteTag(ctx, "app", "v1") },
	"HasBlob": func(ctx context.Context, c *remote.Client) error {
		return c.HasBlob(ctx, "app", digest.FromString("x"))
	},
	"Upload": func(ctx context.Context, c *remote.Client) error {
		_, err := c.Upload(ctx, "app", []byte("x"))
		return err
	},
	"Mount": func(ctx context.Context, c *remote.Client) error {
		return c.Mount(ctx, "app", "other", digest.FromString("x"))
	},
	"Put": func(ctx context.Context, c *remote.Client) error {
		_, err := c.Put(ctx, "app", "v1", "application/json", []byte("{}"))
		return err
	},
	"Blob": func(ctx context.Context, c *remote.Client) error {
		_, err := c.Blob(ctx, "app", digest.FromString("x"), 1000)
		return err
	},
	"Exists": func(ctx context.Context, c *remote.Client) error {
		return c.Exists(ctx, "app", digest.FromString("x"))
	},
	"Manifest": func(ctx context.Context, c *remote.Client) error {
		_, _, err := c.Manifest(ctx, "app", digest.FromString("x").String())
		return err
	},
	"ManifestUnless": func(ctx context.Context, c *remote.Client) error {
		_, _, _, err := c.ManifestUnless(ctx, "app", "v1", digest.FromString("x"))
		return err
	},
	"Repositories": func(ctx context.Context, c *remote.Client) error {
		for _, err := range c.Repositories(ctx, "") {
			if err != nil {
				return err
			}
		}
		return nil
	},
	"Shows": func(ctx context.Context, c *remote.Client) error {
		_, err := c.Shows(ctx, "app", "v1", digest.FromString("x"))
		return err
	},
	"Tags": func(ctx context.Context, c *remote.Client) error {
		_, err := c.Tags(ctx, "app")
		return err
	},
}

// A world is a failing registry with the servers that it names: the storage behind it,
// and a token service.
type world struct {
	registry, storage, token http.HandlerFunc
	nobody                   string // a host and port without a server

	at map[string]string // the hosts of these servers, and of a stranger, by name
}

// signed returns a presigned URL, as a registry on S3 sends for blobs.
func signed(host string) string {
	return "http://" + host + "/bucket/" + secret + "?X-Amz-Security-Token=" + secret + "&X-Amz-Signature=" + secret
}

// fail returns a handler that answers with secrets in every part of the answer.
func fail(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range []string{"Docker-Content-Digest", "X-Secret", "Set-Cookie", "ETag", "Content-Type"} {
			w.Header().Set(name, secret)
		}
		w.Header().Set("Link", `</v2/x?last=`+secret+`>; rel="next"`)
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"errors":[{"code":"%s","message":"%s"}], "see": "%s"}`, secret, secret, signed("storage.internal"))
	}
}

// raw returns a handler that writes text instead of an HTTP answer.
func raw(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = conn.Write([]byte(text)) // the client may have disconnected
	}
}

func drop(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the client is gone
	<-r.Context().Done()
}

// After any failure of a server, neither the public text nor the log may contain any
// part of a header, of a body, or of a URL except its host. The public text must not
// contain the host either.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	client := reflect.TypeFor[*remote.Client]()
	for i := range client.NumMethod() {
		m := client.Method(i)
		requests := m.Type.NumIn() > 1 && m.Type.In(1) == reflect.TypeFor[context.Context]()
		if requests && reads[m.Name] == nil {
			t.Errorf("the method %s is not tested: add it to reads", m.Name)
		}
	}
	redirect := func(to func(w *world) string) func(*world) {
		return func(w *world) {
			w.registry = func(rw http.ResponseWriter, r *http.Request) {
				http.Redirect(rw, r, to(w), http.StatusTemporaryRedirect)
			}
		}
	}
	toStorage := func(answer http.HandlerFunc) func(*world) {
		return func(w *world) {
			redirect(func(w *world) string { return signed(w.at["storage"]) })(w)
			w.storage = answer
		}
	}
	login := func(realm string, answer http.HandlerFunc) func(*world) {
		return func(w *world) {
			w.token = answer
			w.registry = func(rw http.ResponseWriter, r *http.Request) {
				at := strings.NewReplacer("TOKEN", w.at["token"], "NOBODY", w.nobody).Replace(realm)
				rw.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="%s",scope="repository:app:pull"`, at, secret))
				fail(http.StatusUnauthorized)(rw, r)
			}
		}
	}
	registry := func(answer http.HandlerFunc) func(*world) {
		return func(w *world) { w.registry = answer }
	}
	const realm = "http://TOKEN/token?key=" + secret
	for _, c := range []struct {
		name string
		set  func(*world)
		want string // the public text; "": not the same for all reads
	}{
		{"400", registry(fail(400)), "the registry answered 400 Bad Request"},
		{"403", registry(fail(403)), "the registry refused: it answered 403 Forbidden"},
		{"404", registry(fail(404)), "the registry answered 404 Not Found"},
		{"429", registry(fail(429)), "the registry answered 429 Too Many Requests"},
		{"500", registry(fail(500)), "the registry answered 500 Internal Server Error"},
		{"503", registry(fail(503)), "the registry answered 503 Service Unavailable"},
		{"599", registry(fail(599)), "the registry answered 599"},
		{"200", registry(fail(200)), ""},
		{"cut short", registry(raw("HTTP/1.1 200 OK\r\nContent-Length: 99\r\nX-Secret: " + secret + "\r\n\r\n" + secret)), ""},
		{"chunks", registry(raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + secret + "\r\n")), ""},
		{"not HTTP", registry(raw(secret + " " + secret + "\r\n\r\n")), "the registry sent an answer that is not HTTP"},
		{"no status", registry(raw("HTTP/1.1 " + secret + " " + secret + "\r\n\r\n")), "the registry sent an answer that is not HTTP"},
		{"no header", registry(raw("HTTP/1.1 200 OK\r\n" + secret + "\r\n\r\n")), "the registry sent an answer that is not HTTP"},
		{"dropped", registry(drop), "the registry closed the connection"},
		{"hangs", registry(hang), "the registry did not answer in time"},
		{"redirect without an address", redirect(func(*world) string { return "http://[" + secret }), "the registry sent an answer that is not HTTP"},
		{"redirect to nowhere", redirect(func(w *world) string { return signed(w.nobody) }), "the storage behind the registry cannot be reached"},
		{"redirect to no scheme", redirect(func(*world) string { return "s3:" + secret + "//" + secret }), "the storage behind the registry sent an answer that is not HTTP"},
		{"redirect in a circle", toStorage(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.String(), http.StatusTemporaryRedirect)
		}), "the storage behind the registry redirects too often"},
		{"storage 403", toStorage(fail(403)), "the storage behind the registry refused: it answered 403 Forbidden"},
		{"storage 500", toStorage(fail(500)), "the storage behind the registry answered 500 Internal Server Error"},
		{"storage drops", toStorage(drop), "the storage behind the registry closed the connection"},
		{"storage hangs", toStorage(hang), "the storage behind the registry did not answer in time"},
		{"storage speaks no HTTP", toStorage(raw(secret + "\r\n\r\n")), "the storage behind the registry sent an answer that is not HTTP"},
		{"storage without TLS", redirect(func(w *world) string { return strings.Replace(signed(w.at["storage"]), "http", "https", 1) }), "the storage behind the registry does not speak TLS"},
		{"storage of a stranger", redirect(func(w *world) string { return strings.Replace(signed(w.at["stranger"]), "http", "https", 1) }), "the storage behind the registry shows a certificate that is not trusted"},
		{"token 401", login(realm, fail(401)), "the registry's token service answered 401 Unauthorized"},
		{"token 500", login(realm, fail(500)), "the registry's token service answered 500 Internal Server Error"},
		{"token dropped", login(realm, drop), "the registry's token service closed the connection"},
		{"token hangs", login(realm, hang), "the registry's token service did not answer in time"},
		{"token is not JSON", login(realm, raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+secret)), "the registry requires a login, which failed"},
		{"token is a number", login(realm, raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"token\": 471100000000000001}")), "the registry requires a login, which failed"},
		{"token is not accepted", login(realm, raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"token\": \""+secret+"\"}")), "the registry refused: it answered 401 Unauthorized"},
		{"token from nobody", login("http://NOBODY/token?key="+secret, nil), "the registry's token service cannot be reached"},
		{"realm inside", login("http://10.0.0.1/"+secret+"?"+secret, nil), "the registry requires a login, which failed"},
		{"realm of no scheme", login(secret+"://"+secret, nil), "the registry requires a login, which failed"},
		{"realm is not a URL", login("http://%"+secret, nil), "the registry requires a login, which failed"},
		{"basic", registry(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `Basic realm="`+secret+`"`)
			fail(http.StatusUnauthorized)(w, r)
		}), "the registry requires a login"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.set(w)
			failed := 0
			for name, read := range reads {
				ctx, cancel := context.WithTimeout(t.Context(), patience(c.name))
				err := read(ctx, connect(t, "http://"+w.at["registry"]))
				cancel()
				if err == nil {
					continue
				}
				failed++
				reason := indexer.Reason(err)
				if c.want != "" && reason != c.want {
					t.Errorf("%s: got reason %q, want %q (%v)", name, reason, c.want, err)
				}
				w.secretless(t, name, reason, err)
			}
			if failed == 0 || c.want != "" && failed < len(reads) {
				t.Errorf("%d of %d reads failed, want all", failed, len(reads))
			}
		})
	}
}

// patience returns the time limit of a read: short for servers that hang, and long
// enough for all others.
func patience(name string) time.Duration {
	if strings.HasSuffix(name, "hangs") {
		return 300 * time.Millisecond
	}
	return 30 * time.Second
}

// secretless fails the test if one of the two texts of an error contains a secret.
func (w *world) secretless(t *testing.T, name, reason string, err error) {
	t.Helper()
	for _, text := range []string{secret, url.QueryEscape(secret), "471100000000000001", "X-Amz", "?"} {
		if strings.Contains(err.Error(), text) || strings.Contains(reason, text) {
			t.Errorf("%s: %q is shown: reason %q, log %q", name, text, reason, err)
		}
	}
	for _, text := range []string{"127.0.0.1", "localhost", "://", "10.0.0.1"} {
		if strings.Contains(reason, text) {
			t.Errorf("%s: the reason contains %q: %s", name, text, reason)
		}
	}
	var fault *indexer.Fault
	if !errors.As(err, &fault) || indexer.StoredReason(reason) != reason {
		t.Errorf("%s: %q is not a valid reason", name, reason)
	}
	if !strings.Contains(err.Error(), "app") && !strings.Contains(err.Error(), "catalog") {
		t.Errorf("%s: the log lacks the failed request: %v", name, err)
	}
}

// newWorld starts three servers without handlers.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{at: map[string]string{}}
	for name, answer := range map[string]*http.HandlerFunc{"registry": &w.registry, "storage": &w.storage, "token": &w.token} {
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { (*answer)(rw, r) }))
		t.Cleanup(server.Close)
		w.at[name] = strings.TrimPrefix(server.URL, "http://")
	}
	stranger := httptest.NewUnstartedServer(fail(http.StatusOK)) // its certificate is not from a trusted authority
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0)
	stranger.StartTLS()
	t.Cleanup(stranger.Close)
	w.at["stranger"] = strings.TrimPrefix(stranger.URL, "https://")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.nobody = listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}
