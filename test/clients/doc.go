// Package clients is the road test: it starts the whole of Portbook as `make up`
// does, and lets the clients that people really use push to it, search it,
// install from it and delete. It holds tests only.
//
// accept has the scripts that run a client and say whether it printed what was
// expected; they are of use by hand too.
package clients
