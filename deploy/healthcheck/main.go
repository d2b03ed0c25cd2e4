// Healthcheck requests a URL and exits 0 if the answer is 200. It is the health check
// of our container images, which have no shell and no curl.
//
//	healthcheck http://127.0.0.1:8081/readyz
//
// It is built outside any module, and imports only the standard library.
package main

import (
	"fmt"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: healthcheck URL")
		os.Exit(2)
	}
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// check returns an error if url does not answer 200. Its timeout is shorter than that
// in docker-compose.yml, so that the log has the reason.
func check(url string) error {
	client := &http.Client{Timeout: 4 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}
