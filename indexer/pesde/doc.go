// Package pesde has the formats of pesde, a package manager for Luau: the names, versions and
// targets of packages, the manifest and the archive that its client publishes, the files of its
// index repository, and the answers of its registry. It also maps a package to an OCI artifact and
// back, since we store packages in the container registry.
//
// It is pure: it knows no network, no database and no git. The formats are those of client 0.7.3
// and registry 0.2.3. Whatever is written here is first read back as strictly as that client reads
// it, because one bad entry of a package file makes the whole package unusable for every client.
package pesde

import "fmt"

// A Refused is the error of an archive that cannot be published. The registry answers it with
// status 400.
type Refused struct {
	Text string // for whoever publishes
}

// Error implements error.
func (r *Refused) Error() string { return r.Text }

func refused(format string, a ...any) error { return &Refused{fmt.Sprintf(format, a...)} }

// invalidArchive returns a Refused with the beginning that most of them have.
func invalidArchive(format string, a ...any) error {
	return refused("archive is invalid: "+format, a...)
}
