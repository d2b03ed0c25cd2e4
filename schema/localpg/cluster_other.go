//go:build unix && !linux

package localpg

import "context"

// locale sorts bytewise like Linux's C.UTF-8, which not every system has.
const locale = "C"

// waitUnused leaves it to PostgreSQL to find out whether another server uses
// the cluster: there is no /proc to ask.
func waitUnused(context.Context, string) error { return nil }
