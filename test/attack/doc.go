// Package attack keeps the attacks that once hurt others: pushes and requests
// that are allowed, cheap to send, and costly to take. Its test runs each of
// them against a whole system while victims push, search and ask for flatpak's
// index, and prints what they felt with the attack and without.
//
// It fails on facts only: a victim that got no answer or an error, a push that
// was never found, an answer or a process that grew too large, a book that
// differs from the registry at the end. Times depend on the machine, and are
// printed for people to judge.
package attack
