// Package storage tests the registry's configuration that `portbook registry-config` writes: it
// starts the real registry with it, on each storage, and pushes and pulls.
//
// It is a module of its own, so that no other has the dependencies of the servers.
package storage
