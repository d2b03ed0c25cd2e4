package indexer

import (
	"fmt"
	"runtime"
)

// maxCallers is the maximum number of callers that a Panic has.
const maxCallers = 64

// A Panic is the error of work that panicked. Its text may quote anything: it is for the log.
type Panic struct {
	Value   any
	Callers []uintptr // see runtime.Callers; the innermost first, beginning with what recovered
}

// PanicOf returns the error of a panic. It must be called by the deferred function that recovered value.
func PanicOf(value any) *Panic {
	callers := make([]uintptr, maxCallers)
	return &Panic{value, callers[:runtime.Callers(2, callers)]}
}

func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }
