package launch

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/portbook/portbook/registry/push"
)

// Push pushes a small image as reference, name:tag, to the Portbook at addr, on
// machines without another client.
func Push(ctx context.Context, addr string, login Login, reference string, out io.Writer) error {
	repository, tag, found := strings.Cut(reference, ":")
	if !found {
		return fmt.Errorf("push %s: write NAME:TAG, such as me/first:1.0", reference)
	}
	pushed, err := login.pusher(addr).Image(ctx, repository, tag, push.ImageSpec{
		Labels: map[string]string{"org.opencontainers.image.description": "A first image to find"},
		Files:  map[string]string{"hello": "Hello from Portbook\n"},
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "pushed %s:%s, %s\n", repository, tag, pushed.Digest)
	return err
}

// Search prints the answer to a docker search of the Portbook at addr. It waits at most
// a second for a result: an image is found about 10 ms after its push.
func Search(ctx context.Context, addr string, login Login, query string, out io.Writer) error {
	for deadline := time.Now().Add(time.Second); !login.found(ctx, "http://"+addr, query) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	body, err := login.fetch(ctx, "http://"+addr+"/v1/search?q="+url.QueryEscape(query))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", body)
	return err
}
