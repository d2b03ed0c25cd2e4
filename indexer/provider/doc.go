// Package provider asks identity providers who a person is: GitHub, and any provider of OpenID
// Connect.
//
// The browser goes to the address of the provider, and comes back with a code, for which the
// provider tells us, and only us, who the person is. What follows from that is left to others:
// whether the person has an account, and what it may do.
//
// An error has a reason for the person (indexer.Fault) and the rest for the log. It is
// indexer.ErrInvalid if the person is refused, and indexer.ErrUnavailable if the provider does
// not do its part.
package provider
