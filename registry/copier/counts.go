package copier

import (
	"fmt"
	"sync"
	"time"
)

// A result is what came of a file.
type result int

const (
	copied result = iota
	there         // it was in the destination
	kept          // a tag of the destination that shows another manifest
	gone          // it was deleted from the source meanwhile
	failed
)

// perFile is what a file counts for besides its bytes when the time that is left is computed:
// 64 KiB, what a line of 30 Mbit/s sends in the 20 ms of a request. It is a guess.
const perFile = 64 << 10

// Counts says how far a copy is. Files are blobs and links.
type Counts struct {
	Files, Copied, There, Kept, Gone, Failed int64
	Blobs                                    int64 // copied
	Bytes                                    int64 // of blobs, copied
	Listed                                   bool  // Files is complete
	Began                                    time.Time

	weight, all int64 // with perFile for each file
	idle        int64 // the part of weight that was there
}

// Ended returns how many files have been tried.
func (c Counts) Ended() int64 { return c.Copied + c.There + c.Kept + c.Gone + c.Failed }

// Line returns a line for people: how far the copy is, its rate and the time that is left.
func (c Counts) Line(now time.Time) string {
	seconds := max(now.Sub(c.Began).Seconds(), 0.001)
	line := fmt.Sprintf("%d of %d files, %d failed, %.1f files/s, %.1f MB/s",
		c.Ended(), c.Files, c.Failed, float64(c.Ended())/seconds, float64(c.Bytes)/1e6/seconds)
	rate := float64(c.weight-c.idle) / seconds
	switch {
	case !c.Listed:
		return line + "; still listing"
	case rate > 0:
		left := time.Duration(float64(c.all-c.weight) / rate * float64(time.Second))
		return line + fmt.Sprintf("; %v left", left.Round(time.Second))
	}
	return line
}

// A counter counts. It is safe for concurrent use.
type counter struct {
	mu sync.Mutex
	n  Counts
}

func (c *counter) begin(now time.Time) { c.change(func(n *Counts) { n.Began = now }) }

func (c *counter) listed() { c.change(func(n *Counts) { n.Listed = true }) }

func (c *counter) found(f file) {
	c.change(func(n *Counts) { n.Files, n.all = n.Files+1, n.all+weightOf(f) })
}

func (c *counter) bytes(size int64) {
	c.change(func(n *Counts) { n.Blobs, n.Bytes = n.Blobs+1, n.Bytes+size })
}

func (c *counter) ended(f file, r result) {
	c.change(func(n *Counts) {
		*[]*int64{&n.Copied, &n.There, &n.Kept, &n.Gone, &n.Failed}[r]++
		n.weight += weightOf(f)
		if r != copied {
			n.idle += weightOf(f) - perFile
		}
	})
}

func (c *counter) change(f func(*Counts)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.n)
}

func (c *counter) read() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func weightOf(f file) int64 {
	if f.kind == data {
		return f.size + perFile
	}
	return perFile
}
