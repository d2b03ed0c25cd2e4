// Package operations tests doc/operations.md: it runs the commands of the page in
// order on real servers.
package operations
