package harness

import (
	"os"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	t.Parallel()
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[99-i] = float64(i + 1)
	}
	for _, test := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{nil, 0.5, 0},
		{[]float64{7}, 0.99, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2},
		{hundred, 0.5, 50},
		{hundred, 0.9, 90},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
	} {
		if got := Quantile(test.values, test.q); got != test.want {
			t.Errorf("Quantile(%d values, %v) = %v, want %v", len(test.values), test.q, got, test.want)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 5: "5", 0.1234: "0.123", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 999.6: "1,000", 1000: "1,000", 12501: "12,501", 1234567: "1,234,567",
	} {
		if got := Number(v); got != want {
			t.Errorf("Number(%v) = %q, want %q", v, got, want)
		}
	}
}

// No word may be the beginning of another, or a search would find both.
func TestUniqueWords(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for n := range 10_000 {
		seen[UniqueWord(n)] = true
		if len(UniqueWord(n)) != len(UniqueWord(0)) {
			t.Fatalf("word %d is %q", n, UniqueWord(n))
		}
	}
	if len(seen) != 10_000 {
		t.Errorf("%d different words of 10,000", len(seen))
	}
}

// The clock of our own process grows while it works, and a process that has ended has
// none.
func TestProcessorSeconds(t *testing.T) {
	t.Parallel()
	before := ProcessorSeconds(os.Getpid())
	if before <= 0 {
		t.Fatalf("this process has used %v s", before)
	}
	for deadline := time.Now().Add(10 * time.Second); ProcessorSeconds(os.Getpid()) == before; {
		if time.Now().After(deadline) {
			t.Fatal("working for 10 s used no processor time")
		}
	}
	if got := ProcessorSeconds(1<<22 + 1); got != 0 { // above the highest pid of Linux
		t.Errorf("a process that is not there has used %v s", got)
	}
}
