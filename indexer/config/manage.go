package config

import "time"

// Manage has settings of changes of what the registry stores.
type Manage struct {
	// Trash is how long the manifests that were deleted can be restored; 0: for ever. Their blobs
	// are the registry's, which knows nothing of it.
	Trash time.Duration `mapstructure:"trash" default:"30d"`
}
