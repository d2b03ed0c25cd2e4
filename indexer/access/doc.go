// Package access decides who may do what with which repositories.
//
// Who asks is a Subject: a person, a robot, or nobody in particular. What a subject may do
// is a list of rules, each a pattern of repository names and what is allowed in them;
// Rules come from grants, which an administrator gives to a subject, to a group or to
// everybody. Two questions are asked of a subject: Allowed, about one repository, and
// Asker, about all that it may see. Both evaluate the same rules; there is no other way.
//
// Accounts, Tokens, GitHub and Delegate find the subject of credentials. A Workload is a job or
// a pod that logs in as a robot, and an Identity a person whom a provider knows; Sessions are
// logins in a browser. A Signer signs the tokens by which the registry knows what a client may
// do, so that it asks no other server. A Permit decides who may change accounts and grants, and
// a Record says who did.
package access
