// Package errorreport sends reports of errors of the program itself to a server that speaks
// Sentry's protocol: panics, answers with a status of 5xx, and what is logged as an error.
//
// A report is built field by field from what the program knows of itself: its version and
// role, the pattern of a route, the id of a request, a status, the fixed message of a line of
// the log, types of errors, and functions with lines. It quotes no text that came from outside
// or was made of such text, so nothing has to be found and removed in it. The log has the
// whole error, with the same id of the request.
//
// Reports never delay what they are about: they wait in a short queue, and what does not fit
// into it, or is more than the limits allow, is counted and dropped.
//
// Of the client library, only its form of events and its transport are used: a client of it
// would add the name of the host, the environment and the modules.
package errorreport
