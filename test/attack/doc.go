// Package attack keeps attacks that once harmed other users: pushes and requests that
// are allowed, cheap to send, and costly to process. Its test runs each of them against
// a whole system while victims push, search and read flatpak's index, and prints what
// the victims experienced with the attack and without.
//
// It fails on facts only: a victim that got no answer or an error, a push that was
// never found, an answer or a process that grew too large, a book that differs from the
// registry at the end. Times depend on the machine; they are printed for people to
// judge.
package attack
