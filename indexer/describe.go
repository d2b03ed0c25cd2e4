package indexer

// Where images say what they are called and what they are, best first:
// annotations and labels of the OCI image-spec, then label-schema.org's, then
// those of Kubernetes and OpenShift, then the plain ones of older images.
var (
	titleKeys = []string{
		"org.opencontainers.image.title", "org.label-schema.name", "io.k8s.display-name", "name", "Name",
	}
	descriptionKeys = []string{
		"org.opencontainers.image.description", "org.label-schema.description", "io.k8s.description", "description", "Description", "summary",
	}
)

// Describe gives the title and the description that an image states, each "" if
// it states none. The best key wins, and for it the first set of metadata.
func Describe(metadata ...map[string]string) (title, description string) {
	return firstOf(titleKeys, metadata), firstOf(descriptionKeys, metadata)
}

func firstOf(keys []string, metadata []map[string]string) string {
	for _, k := range keys {
		for _, m := range metadata {
			if v := m[k]; v != "" {
				return v
			}
		}
	}
	return ""
}
