// Package operations keeps doc/operations.md true: its test takes the commands
// out of the page and runs them, in their order, on real servers.
package operations
