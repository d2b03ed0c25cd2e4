package web

import (
	"path"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// A command is a line to copy into a shell.
type command struct{ Tool, Text string }

// pullCommands are how to get what a reference shows: by the clients that people
// have, or by those made for the type of an artifact.
func pullCommands(host string, ref indexer.Reference, kind indexer.Kind, artifactType string) []command {
	whole := host + "/" + ref.String()
	switch {
	case kind == indexer.KindImage, kind == indexer.KindIndex:
		return []command{
			{"docker", "docker pull " + whole},
			{"podman", "podman pull " + whole},
			{"skopeo", "skopeo copy docker://" + whole + " oci:" + path.Base(ref.Repository)},
		}
	case strings.Contains(artifactType, "vnd.cncf.helm") && ref.Tag != "":
		// A tag has no +, so helm writes _ for it, and reads it back.
		return []command{{"helm", "helm pull oci://" + host + "/" + ref.Repository + " --version " + strings.ReplaceAll(ref.Tag, "_", "+")}, {"oras", "oras pull " + whole}}
	case kind == indexer.KindArtifact:
		return []command{{"oras", "oras pull " + whole}}
	}
	return nil
}
