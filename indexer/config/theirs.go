package config

// theirKeys are the keys that variables of other systems set, besides those of pesdeKeys. They
// are not PORTBOOK_ variables, so that their environment works unchanged. As everywhere, an
// empty one is ignored.
var theirKeys = map[string]string{
	"INTERNAL_SECRET": "internal.secret", "LOG_LEVEL": "log.level", // of the registry of Deploys.app
	"DATA_DIR": "data_dir", // of pesde's registry server
}
