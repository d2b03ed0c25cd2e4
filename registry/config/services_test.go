//go:build unix

package config_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/portbook/portbook/registry/internal/child"
	"github.com/portbook/portbook/registry/registrytest"
)

// Two replicas share the cache, so each notices the other's deletions.
func TestRedis(t *testing.T) {
	t.Parallel()
	addr := startRedis(t)
	receiver := registrytest.NewReceiver(t)
	p := start(t, receiver, "redis.yml", "REGISTRY_REDIS_ADDRS=["+addr+"]")
	replica := registrytest.StartProcess(t, registrytest.ProcessConfig{
		File: "redis.yml", Root: p.Root, Env: []string{"REGISTRY_REDIS_ADDRS=[" + addr + "]"},
	})
	checkPush(t, p.Push, receiver)
	if got := redisCommand(t, addr, "DBSIZE"); got == ":0" {
		t.Error("Redis is empty: the registry did not use it")
	}
	checkSeesDelete(t, p.Push, replica.Push)
}

// startRedis starts a Redis for this test and returns its address. If redis-server is
// not installed, it skips the test, or fails it if CI is set.
func startRedis(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		missing(t, "redis-server is not installed (Debian: apt-get install redis-server)")
	}
	addr := registrytest.FreeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	c, err := child.Start(exec.Command(path, "--bind", host, "--port", port, "--save", "", "--dir", t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.End(syscall.SIGKILL) })
	waitListening(t, addr)
	return addr
}

// missing skips the test, or fails it if CI is set.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// redisCommand sends one command and returns the first line of the answer.
func redisCommand(t *testing.T, addr, command string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s\r\n", command)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func TestS3(t *testing.T) {
	t.Parallel()
	tests := map[string][]string{
		"redirect":    nil,
		"no redirect": {"REGISTRY_STORAGE_REDIRECT_DISABLE=true"},
	}
	for name, env := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			receiver := registrytest.NewReceiver(t)
			p := start(t, receiver, "s3.yml", append(env,
				"REGISTRY_STORAGE_S3_BUCKET=images",
				"REGISTRY_STORAGE_S3_ACCESSKEY=key",
				"REGISTRY_STORAGE_S3_SECRETKEY=secret",
				"REGISTRY_STORAGE_S3_REGIONENDPOINT="+startS3(t, "images"),
				"REGISTRY_STORAGE_S3_FORCEPATHSTYLE=true")...)
			checkPush(t, p.Push, receiver)
			checkDelete(t, p.Push, receiver)
		})
	}
}

// startS3 starts an S3 server in memory with one bucket and returns its URL. It
// accepts any key.
func startS3(t *testing.T, bucket string) string {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	s3 := gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog()))
	server := httptest.NewServer(s3.Server())
	t.Cleanup(server.Close)
	return server.URL
}

// waitListening waits until addr accepts connections, for at most 30 s.
func waitListening(t *testing.T, addr string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("no listener on %s: %v", addr, err)
		}
	}
}

// get returns the body of a page. It first waits for the listener, because the debug
// listener may start a little later than the registry itself.
func get(t *testing.T, url string) string {
	t.Helper()
	waitListening(t, strings.Split(url, "/")[2])
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
