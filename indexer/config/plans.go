package config

import "time"

// Plans has settings of plans, which list what rules of retention would delete.
type Plans struct {
	// Interval is the time from one plan of all repositories to the next; 0: only on request.
	Interval time.Duration `mapstructure:"interval" default:"0"`
	// Apply says that plans of Interval are applied, if they are within Cap. Without Interval it
	// has no effect.
	Apply bool `mapstructure:"apply" default:"false"`
	// Cap is the largest share in per cent of the tags or of the manifests, of one repository or
	// of all, up to which a plan is applied without saying its share.
	Cap int `mapstructure:"cap" default:"20" min:"0" max:"100"`
}
