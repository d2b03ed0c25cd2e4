package sweep

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
)

// Flags of a record.
const (
	stored    uint8 = 1 << iota // the data are in their place
	linked                      // by a repository, as a layer or config
	revision                    // by a repository, as a manifest
	used                        // named by a manifest
	elsewhere                   // a manifest says that it may be elsewhere
)

// A key is the value of a sha256 digest.
type key [32]byte

// A record is what is known of one blob, or a part of it.
type record struct {
	key      key
	flags    uint8
	size     int64
	modified int64 // nanoseconds since 1970; 0: unknown
	trashed  int64 // likewise; 0: not in the trash
}

// recordSize is the size of a record in a file: 57 bytes.
const recordSize = 32 + 1 + 8 + 8 + 8

// add adds what another record of the same blob says.
func (r *record) add(o record) {
	r.flags |= o.flags
	r.size = max(r.size, o.size)
	r.modified = max(r.modified, o.modified)
	r.trashed = max(r.trashed, o.trashed)
}

func (r record) append(b []byte) []byte {
	b = append(append(b, r.key[:]...), r.flags)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.modified))
	return binary.LittleEndian.AppendUint64(b, uint64(r.trashed))
}

func decode(b []byte) (r record) {
	copy(r.key[:], b)
	r.flags = b[32]
	r.size = int64(binary.LittleEndian.Uint64(b[33:]))
	r.modified = int64(binary.LittleEndian.Uint64(b[41:]))
	r.trashed = int64(binary.LittleEndian.Uint64(b[49:]))
	return r
}

// runLength is how many records a sorter holds in memory: 262,144, about 16 MB. More are
// sorted in runs of this length in files.
const runLength = 1 << 18

// A sorter sorts any number of records by key, in bounded memory. It is safe for concurrent
// use until it is read.
type sorter struct {
	mu     sync.Mutex
	length int // of a run; tests use a short one
	buffer []record
	runs   []*os.File
	failed error
}

func newSorter() *sorter { return &sorter{length: runLength} }

// add adds a record. An error of the disk is returned by merge.
func (s *sorter) add(r record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buffer = append(s.buffer, r)
	if len(s.buffer) >= s.length && s.failed == nil {
		s.failed = s.spill()
	}
}

// sort sorts the buffer and joins the records of each blob.
func (s *sorter) sort() {
	slices.SortFunc(s.buffer, func(a, b record) int { return bytes.Compare(a.key[:], b.key[:]) })
	n := 0
	for i, r := range s.buffer {
		if i > 0 && s.buffer[n-1].key == r.key {
			s.buffer[n-1].add(r)
			continue
		}
		s.buffer[n] = r
		n++
	}
	s.buffer = s.buffer[:n]
}

// spill writes the buffer to a file, if joining its records does not make it short.
func (s *sorter) spill() error {
	if s.sort(); len(s.buffer) < s.length/2 {
		return nil
	}
	file, err := os.CreateTemp("", "registry-sweep-*")
	if err != nil {
		return fmt.Errorf("temporary file: %w", err)
	}
	os.Remove(file.Name()) // the open file stays, and goes with the process
	s.runs = append(s.runs, file)
	w := bufio.NewWriter(file)
	var b []byte
	for _, r := range s.buffer {
		b = r.append(b[:0])
		w.Write(b) // Flush returns its error
	}
	s.buffer = s.buffer[:0]
	return w.Flush()
}

// close frees the files.
func (s *sorter) close() {
	for _, f := range s.runs {
		f.Close()
	}
	s.runs = nil
}

// A source is a sorted list of records that is being read.
type source struct {
	now  record
	next func() (record, error) // io.EOF at the end
}

// sources returns the runs of the sorter, each at its first record.
func (s *sorter) sources() (all []*source, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return nil, s.failed
	}
	s.sort()
	i := 0
	all = append(all, &source{next: func() (record, error) {
		if i == len(s.buffer) {
			return record{}, io.EOF
		}
		i++
		return s.buffer[i-1], nil
	}})
	for _, f := range s.runs {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		in, b := bufio.NewReader(f), make([]byte, recordSize)
		all = append(all, &source{next: func() (record, error) {
			_, err := io.ReadFull(in, b)
			return decode(b), err
		}})
	}
	return all, nil
}

// A front is a heap of sources, the one with the lowest key first.
type front []*source

func (f front) Len() int           { return len(f) }
func (f front) Less(i, j int) bool { return bytes.Compare(f[i].now.key[:], f[j].now.key[:]) < 0 }
func (f front) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *front) Push(x any)        { *f = append(*f, x.(*source)) }
func (f *front) Pop() any {
	last := len(*f) - 1
	x := (*f)[last]
	*f = (*f)[:last]
	return x
}

// advance reads the next record of the first source, and drops the source at its end.
func (f *front) advance() error {
	first := (*f)[0]
	var err error
	switch first.now, err = first.next(); {
	case errors.Is(err, io.EOF):
		heap.Pop(f)
	case err != nil:
		return err
	default:
		heap.Fix(f, 0)
	}
	return nil
}

// merge calls visit once for each blob of all sorters, in order of digest. It can be repeated.
func merge(visit func(record) error, sorters ...*sorter) error {
	var f front
	for _, s := range sorters {
		sources, err := s.sources()
		if err != nil {
			return err
		}
		for _, x := range sources {
			if x.now, err = x.next(); errors.Is(err, io.EOF) {
				continue
			} else if err != nil {
				return err
			}
			f = append(f, x)
		}
	}
	heap.Init(&f)
	for len(f) > 0 {
		joined := f[0].now
		for len(f) > 0 && f[0].now.key == joined.key {
			joined.add(f[0].now)
			if err := f.advance(); err != nil {
				return err
			}
		}
		if err := visit(joined); err != nil {
			return err
		}
	}
	return nil
}
