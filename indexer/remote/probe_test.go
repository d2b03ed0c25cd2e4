package remote_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/portbook/portbook/indexer/remote"
)

// A Probe must notice a restart by a broken connection or by missing answers. The end
// of a connection that was announced, or that is never kept, must not count as a
// restart.
func TestProbe(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	var closes atomic.Bool // the answer announces the end of its connection
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if closes.Load() {
			w.Header().Set("Connection", "close")
		}
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(server.Close)
	client, err := remote.New(remote.Config{URL: server.URL, UserAgent: "test", Connections: 1})
	if err != nil {
		t.Fatal(err)
	}
	p := remote.NewProbe(client)
	t.Cleanup(p.Close)
	look := func(what string, want bool) {
		t.Helper()
		if got := p.Look(t.Context()); got != want {
			t.Errorf("%s: restarted %v, want %v", what, got, want)
		}
	}
	status.Store(http.StatusUnauthorized)
	look("first look", false)
	look("the same connection", false)
	server.CloseClientConnections()
	look("broken connection", true)
	look("the new connection", false)
	status.Store(http.StatusBadGateway)
	look("away", false)
	look("still unavailable", false)
	status.Store(http.StatusOK)
	look("back", true)
	look("afterwards", false)
	look("and again", false)
	closes.Store(true)
	look("an answer that announces the end", false)
	look("and another", false)
	closes.Store(false)
	look("kept again", false)
	server.Config.SetKeepAlivesEnabled(false) // as with a proxy that keeps no connections, and announces it in each answer
	for range 3 {
		look("a connection that is never kept", false)
	}
}
