// Package clients tests Portbook, started as `make up` does, with the real clients:
// they push, search, install and delete. It has tests only.
//
// The scripts in accept run one client each and check its output. They can be run by
// hand too.
package clients
