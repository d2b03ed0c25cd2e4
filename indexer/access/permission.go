package access

// A Permission is a right in all repositories of a project, by the name that the API of
// Deploys.app has for it. A project is the first part of a repository's name, before the slash;
// a repository without a slash belongs to none.
type Permission string

// The permissions.
const (
	MayPull Permission = "registry.pull"
	MayPush Permission = "registry.push"
	MayList Permission = "registry.list"
	MayGet  Permission = "registry.get"
)

// permissions are all permissions, with what a client who has one may do in the registry, and
// with what a client must be allowed by rules to have it. To list and to get concern the API
// only: by rules, who may pull may also see.
var permissions = []struct {
	name          Permission
	allows, needs Actions
}{
	{MayPull, Pull, Pull},
	{MayPush, Push | Delete, Push | Delete},
	{MayList, 0, Pull},
	{MayGet, 0, Pull},
}

// Allows returns what a client with the permission may do in the registry; 0 for a name that is
// not a permission.
func (p Permission) Allows() Actions {
	for _, x := range permissions {
		if x.name == p {
			return x.allows
		}
	}
	return 0
}

// Of reports whether rules that allow actions include the permission.
func (p Permission) Of(allowed Actions) bool {
	for _, x := range permissions {
		if x.name == p {
			return allowed.Has(x.needs)
		}
	}
	return false
}
