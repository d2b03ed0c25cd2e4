package main_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// While a publish waits for a repository elsewhere that does not answer, the index is still read.
func TestPackageIndexIsReadWhileItChanges(t *testing.T) {
	t.Parallel()
	f := launch(t)
	dir := t.TempDir()
	var away, stuck, asked atomic.Bool
	behind := gitServer(t, dir, &away)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stuck.Load() {
			asked.Store(true)
			<-r.Context().Done()
			return
		}
		behind.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	git(t, "init", "-q", "--bare", "--initial-branch", "main", filepath.Join(dir, "index.git"))
	f.settings = append(packageSettings(f), "ACCESS_TOKEN=t", "INDEX_REPO_URL="+server.URL+"/index.git", "GIT_USERNAME=bot",
		"GIT_PASSWORD=marker-of-a-secret", "PORTBOOK_PACKAGES_API=http://"+f.address)
	f.indexer(f.address)
	awaitIndex(t, f.address)
	stuck.Store(true)
	go func() {
		_, _, _ = askPackages(t.Context(), http.MethodPost, "http://"+f.address+"/v1/packages", "t",
			packageArchive(t, "acme/foo", "1.0.0", ""))
	}()
	within(t, patience, "the publish waits", asked.Load)
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + f.address + "/index/info/refs?service=git-upload-pack")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}
