package indexer

// The keys of annotations and labels that may hold the title and the description of an
// image, best first: those of the OCI image-spec, then label-schema.org's, then those
// of Kubernetes and OpenShift, then the plain ones of older images.
var (
	titleKeys = []string{
		"org.opencontainers.image.title", "org.label-schema.name", "io.k8s.display-name", "name", "Name",
	}
	descriptionKeys = []string{
		"org.opencontainers.image.description", "org.label-schema.description", "io.k8s.description", "description", "Description", "summary",
	}
)

// Describe returns the title and the description in the metadata of an image, or "" for
// each that is missing. The best key is used, from the first set of metadata with it.
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

// licenceKeys are the keys that may hold the licence of an image, best first.
var licenceKeys = []string{"org.opencontainers.image.licenses", "org.label-schema.license", "license", "License"}

// Licence returns the licence in the metadata of an image, unchanged, or "" if there is
// none.
func Licence(metadata ...map[string]string) string { return firstOf(licenceKeys, metadata) }
