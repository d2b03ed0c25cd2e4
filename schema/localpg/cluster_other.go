//go:build unix && !linux

package localpg

import "context"

// locale sorts bytewise like C.UTF-8, which not every system has.
const locale = "C"

// waitUnused does nothing, because there is no /proc. PostgreSQL itself checks whether
// another server uses the cluster.
func waitUnused(context.Context, string) error { return nil }
