package config

import (
	"cmp"
	"net"
	"path/filepath"
	"strings"
)

// Storage is where the registry keeps its content. The program itself never opens it: these keys
// are written into the registry's configuration, and have the names that they have there.
type Storage struct {
	Filesystem StorageFilesystem `mapstructure:"filesystem"`
	S3         StorageS3         `mapstructure:"s3"`
	GCS        StorageGCS        `mapstructure:"gcs"`
	Azure      StorageAzure      `mapstructure:"azure"`
	Redirect   StorageRedirect   `mapstructure:"redirect"`
	Cache      StorageCache      `mapstructure:"cache"`
}

// StorageFilesystem is a directory.
type StorageFilesystem struct {
	RootDirectory string `mapstructure:"rootdirectory"`
}

// StorageS3 is a bucket of Amazon S3 or of a compatible store.
type StorageS3 struct {
	RegionEndpoint string `mapstructure:"regionendpoint"` // URL of the store; empty: Amazon's
	Bucket         string `mapstructure:"bucket"`
	Region         string `mapstructure:"region"`
	AccessKey      string `mapstructure:"accesskey"` // empty: the usual sources of the AWS SDK
	SecretKey      string `mapstructure:"secretkey" secret:"true"`
}

// StorageGCS is a bucket of Google Cloud Storage.
type StorageGCS struct {
	Bucket  string `mapstructure:"bucket"`
	KeyFile string `mapstructure:"keyfile"` // of a service account; empty: Google's default credentials
}

// StorageAzure is a container of Azure Blob Storage.
type StorageAzure struct {
	AccountName string `mapstructure:"accountname"`
	AccountKey  string `mapstructure:"accountkey" secret:"true"` // empty: Azure's default credentials
	Container   string `mapstructure:"container"`
	ServiceURL  string `mapstructure:"serviceurl"` // empty: Azure's own
}

// StorageRedirect says whether clients read blobs from the store itself.
type StorageRedirect struct {
	Disable bool `mapstructure:"disable" default:"false"`
}

// StorageCache is the cache of descriptors of blobs.
type StorageCache struct {
	BlobDescriptor     string `mapstructure:"blobdescriptor" default:"inmemory" oneof:"inmemory redis none"`
	BlobDescriptorSize int    `mapstructure:"blobdescriptorsize" default:"200000" min:"1"` // entries in memory
}

// Redis is that of the registry, for StorageCache.
type Redis struct {
	Addrs    []string `mapstructure:"addrs"` // host:port; several are a cluster
	Username string   `mapstructure:"username"`
	Password string   `mapstructure:"password" secret:"true"`
	DB       int      `mapstructure:"db" default:"0" min:"0" max:"1000000"`
}

// A StorageType is a driver of the registry. S3 is used if a directory is set too.
type StorageType string

// The types, by their names in the registry's configuration.
const (
	NoStorage         StorageType = ""
	FilesystemStorage StorageType = "filesystem"
	S3Storage         StorageType = "s3"
	GCSStorage        StorageType = "gcs"
	AzureStorage      StorageType = "azure"
)

// storageTypes are the types with what each needs. That of the first that is set is used.
var storageTypes = []struct {
	storage StorageType
	needs   []string // names below storage.<type>; any of the keys there says that the type is meant
}{
	{S3Storage, []string{"bucket"}},
	{FilesystemStorage, []string{"rootdirectory"}},
	{GCSStorage, []string{"bucket"}},
	{AzureStorage, []string{"accountname", "container"}},
}

// Type returns the type of storage that is configured.
func (s Storage) Type() StorageType {
	switch {
	case s.S3 != StorageS3{}:
		return S3Storage
	case s.Filesystem.RootDirectory != "":
		return FilesystemStorage
	case s.GCS != StorageGCS{}:
		return GCSStorage
	case s.Azure != StorageAzure{}:
		return AzureStorage
	}
	return NoStorage
}

// checkStorage checks the storage for the command that writes the registry's configuration. Other
// commands do not use it, so they do not fail because of it.
func (l *loader) checkStorage(c *Config) {
	if len(c.Redis.Addrs) > 0 && !l.chosen("storage.cache.blobdescriptor") {
		c.Storage.Cache.BlobDescriptor = "redis"
		l.effective["storage.cache.blobdescriptor"] = setting{"redis", "default: redis.addrs is set"}
	}
	// A client is sent to Google's storage with a signed address, which needs the key of an account.
	if c.Storage.Type() == GCSStorage && c.Storage.GCS.KeyFile == "" && !l.chosen("storage.redirect.disable") {
		c.Storage.Redirect.Disable = true
		l.effective["storage.redirect.disable"] = setting{"true", "default: no storage.gcs.keyfile to sign with"}
	}
	if !l.forRegistry {
		return
	}
	if root := &c.Storage.Filesystem.RootDirectory; *root != "" && l.dir != "" && !filepath.IsAbs(*root) {
		*root = filepath.Join(l.dir, *root) // the registry may start elsewhere
	}
	used := c.Storage.Type()
	if used == NoStorage {
		l.fail("no storage backend configured: set storage.filesystem.rootdirectory (FS_STORAGE_ROOT)," +
			" storage.s3 (S3_BUCKET_NAME and the variables beside it), storage.gcs.bucket (BUCKET_NAME) or storage.azure")
		return
	}
	for _, t := range storageTypes {
		set := l.firstBelow("storage." + string(t.storage) + ".")
		both := used == S3Storage && t.storage == FilesystemStorage // as in pesde's registry server
		switch {
		case t.storage == used:
			l.checkNeeds(string(t.storage), t.needs, set)
		case set != "" && !both:
			first := l.firstBelow("storage." + string(used) + ".")
			l.fail("%s and %s are two storages, and a registry has one: remove one%s%s", first, set, l.at(first), l.at(set))
		}
	}
	l.checkS3(c.Storage.S3)
	l.checkRegistryCache(c)
}

// firstBelow returns the first key in the order of Config that is set and begins with section.
func (l *loader) firstBelow(section string) string {
	for _, k := range l.keys {
		if strings.HasPrefix(k.Name, section) && l.chosen(k.Name) {
			return k.Name
		}
	}
	return ""
}

func (l *loader) checkNeeds(storage string, needs []string, set string) {
	for _, need := range needs {
		if name := "storage." + storage + "." + need; !l.chosen(name) {
			l.fail("%s is required with %s: set it%s", name, set, l.at(set))
		}
	}
}

func (l *loader) checkS3(s StorageS3) {
	if s == (StorageS3{}) {
		return
	}
	if s.RegionEndpoint != "" {
		l.checkURL("storage.s3.regionendpoint", s.RegionEndpoint)
	} else if s.Region == "" {
		l.fail("storage.s3.region is required without storage.s3.regionendpoint: set it to the region of the bucket, such" +
			" as eu-central-1")
	}
	if (s.AccessKey == "") != (s.SecretKey == "") {
		set := cmp.Or(l.at("storage.s3.accesskey"), l.at("storage.s3.secretkey"))
		l.fail("storage.s3.accesskey and storage.s3.secretkey go together: set both or neither%s", set)
	}
}

// checkRegistryCache checks the cache and its Redis.
func (l *loader) checkRegistryCache(c *Config) {
	const cache, addrs = "storage.cache.blobdescriptor", "redis.addrs"
	switch by := c.Storage.Cache.BlobDescriptor; {
	case by == "redis" && len(c.Redis.Addrs) == 0:
		l.fail("%s is required with %s redis: set it to host:port%s", addrs, cache, l.at(cache))
	case by != "redis" && len(c.Redis.Addrs) > 0:
		l.fail("%s is used only with %s redis, and that is %s: set it to redis, or remove %s%s", addrs, cache, by, addrs,
			l.at(addrs))
	}
	for _, a := range c.Redis.Addrs {
		if _, port, err := net.SplitHostPort(a); err != nil || port == "" {
			l.fail("%s: %s is not an address: write host:port such as 127.0.0.1:6379%s", addrs, shown(a), l.at(addrs))
		}
	}
}
