// Package access decides who may do what with which repositories.
//
// Who asks is a Subject: a person, a robot, or nobody in particular. What a subject may do
// is a list of rules, each a pattern of repository names and what is allowed in them;
// Rules come from grants, which an administrator gives to a subject, to a group or to
// everybody. Two questions are asked of a subject: Allowed, about one repository, and
// Asker, about all that it may see. Both evaluate the same rules; there is no other way.
//
// Accounts finds the subject of a name and a secret. A Signer signs the tokens by which the
// registry knows what a client may do, so the registry asks nobody.
package access
