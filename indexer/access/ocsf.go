package access

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// OCSFVersion is the version of the Open Cybersecurity Schema Framework whose fields and
// numbers an OCSF has.
const OCSFVersion = "1.5.0"

// A CloudEvent is a record as a CloudEvent 1.0 in JSON. Its data has the fields of OCSF.
type CloudEvent struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"` // that of the record
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Time            time.Time `json:"time"`
	Subject         string    `json:"subject,omitempty"`
	DataContentType string    `json:"datacontenttype"`
	Data            OCSF      `json:"data"`
}

// An OCSF is a record in the fields of OCSF. Which of them it has depends on its class.
type OCSF struct {
	CategoryUID  int            `json:"category_uid"`
	ClassUID     int            `json:"class_uid"`
	ActivityID   int            `json:"activity_id"`
	ActivityName string         `json:"activity_name"`
	TypeUID      int            `json:"type_uid"`
	Time         int64          `json:"time"` // when it happened; milliseconds since 1970
	SeverityID   int            `json:"severity_id"`
	StatusID     int            `json:"status_id"`
	Message      string         `json:"message,omitempty"`
	Metadata     ocsfMetadata   `json:"metadata"`
	Actor        ocsfActor      `json:"actor"`
	Source       ocsfEndpoint   `json:"src_endpoint"`
	User         *ocsfUser      `json:"user,omitempty"`
	Group        *ocsfNamed     `json:"group,omitempty"`
	Entity       *ocsfEntity    `json:"entity,omitempty"`
	Privileges   []string       `json:"privileges,omitempty"`
	Service      *ocsfNamed     `json:"service,omitempty"`
	API          *ocsfAPI       `json:"api,omitempty"`
	Resources    []ocsfResource `json:"resources,omitempty"`
	Unmapped     *ocsfUnmapped  `json:"unmapped,omitempty"`
}

type ocsfMetadata struct {
	Version     string      `json:"version"`
	UID         string      `json:"uid"`
	LoggedTime  int64       `json:"logged_time"` // when it was recorded; milliseconds since 1970
	Correlation string      `json:"correlation_uid,omitempty"`
	Product     ocsfProduct `json:"product"`
}

type ocsfProduct struct {
	Name    string `json:"name"`
	Vendor  string `json:"vendor_name"`
	Version string `json:"version"`
}

// An ocsfActor has a user only if it has proved its name.
type ocsfActor struct {
	User *ocsfUser `json:"user,omitempty"`
	App  string    `json:"app_name,omitempty"`
}

type ocsfUser struct {
	Name       string `json:"name"`
	Credential string `json:"credential_uid,omitempty"` // the id of a token
}

type ocsfNamed struct {
	Name string `json:"name"`
}

type ocsfEntity struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type ocsfEndpoint struct {
	IP   string `json:"ip,omitempty"`
	Name string `json:"name,omitempty"`
}

type ocsfAPI struct {
	Operation string    `json:"operation"`
	Service   ocsfNamed `json:"service"`
}

type ocsfResource struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// ocsfUnmapped are fields of a record for which OCSF has no place.
type ocsfUnmapped struct {
	Claimed    string `json:"claimed,omitempty"` // the name that a client gave, not verified
	Repository string `json:"repository,omitempty"`
}

// Classes of OCSF. Those below 4000 are of the category Identity & Access Management, and that
// of 6000 is of Application Activity.
const (
	accountChange    = 3001
	authentication   = 3002
	entityManagement = 3004
	userAccess       = 3005
	groupManagement  = 3006
	apiActivity      = 6003
)

// activityOther is the activity of each class that has no number of its own; its name says it.
const activityOther = 99

// An ocsfClass is the class and the activity of an event.
type ocsfClass struct {
	class, activity int
	name            string // of the activity
}

// ocsfClasses are those of the events. A grant to an account is of another class than one to a
// group: see classOf.
var ocsfClasses = map[Event]ocsfClass{
	AccountAdd:       {accountChange, 1, "Create"},
	AccountChange:    {accountChange, activityOther, "Change"},
	AccountPassword:  {accountChange, 3, "Password Change"},
	AccountDelete:    {accountChange, 6, "Delete"},
	AccountLink:      {accountChange, activityOther, "Link"},
	AccountUnlink:    {accountChange, activityOther, "Unlink"},
	TokenAdd:         {entityManagement, 1, "Create"},
	TokenExpire:      {entityManagement, 3, "Update"},
	TokenRevoke:      {entityManagement, 4, "Delete"},
	WorkloadAdd:      {entityManagement, 1, "Create"},
	WorkloadRemove:   {entityManagement, 4, "Delete"},
	CollectPause:     {apiActivity, activityOther, "Pause"},
	CollectResume:    {apiActivity, activityOther, "Resume"},
	CollectRetry:     {apiActivity, activityOther, "Retry"},
	GrantAdd:         {groupManagement, 1, "Assign Privileges"},
	GrantRemove:      {groupManagement, 2, "Revoke Privileges"},
	RetentionAdd:     {entityManagement, 1, "Create"},
	RetentionChange:  {entityManagement, 3, "Update"},
	RetentionRemove:  {entityManagement, 4, "Delete"},
	PlanMake:         {entityManagement, 1, "Create"},
	WebhookAdd:       {entityManagement, 1, "Create"},
	WebhookChange:    {entityManagement, 3, "Update"},
	WebhookRemove:    {entityManagement, 4, "Delete"},
	WebhookRotate:    {entityManagement, 3, "Update"},
	WebhookTest:      {entityManagement, activityOther, "Test"},
	WebhookRedeliver: {entityManagement, activityOther, "Redeliver"},
	WebhookPause:     {entityManagement, activityOther, "Pause"},
	SessionBegin:     {authentication, 1, "Logon"},
	SessionEnd:       {authentication, 2, "Logoff"},
	Login:            {authentication, 1, "Logon"},
	Administration:   {apiActivity, activityOther, "Request"},
	ImagePush:        {apiActivity, 1, "Create"},
	ImageDelete:      {apiActivity, 4, "Delete"},
	TagDelete:        {apiActivity, 4, "Delete"},
	BlobDelete:       {apiActivity, 4, "Delete"},

	ProtectionAdd:     {apiActivity, 1, "Create"},
	ProtectionRemove:  {apiActivity, 4, "Delete"},
	ProtectionBreak:   {apiActivity, activityOther, "Break"},
	ProtectionRestore: {apiActivity, 3, "Update"},
	PushRefuse:        {apiActivity, activityOther, "Push"},
	YankAdd:           {apiActivity, 1, "Create"},
	YankRemove:        {apiActivity, 4, "Delete"},
	PackagePublish:    {apiActivity, 1, "Create"},
	PackageConfigure:  {apiActivity, 3, "Update"},

	RepositoryDelete: {apiActivity, 4, "Delete"},
	ImageRestore:     {apiActivity, 1, "Create"},
	TagRollback:      {apiActivity, 3, "Update"},
	PlanApply:        {apiActivity, 4, "Delete"},
	OperationAdd:     {apiActivity, 3, "Update"},
	JobRun:           {apiActivity, 3, "Update"},
}

// classOf returns the class of a record. An event that is not in the table, because a later
// program has recorded it, is some use of the API.
func classOf(r Record) ocsfClass {
	c, known := ocsfClasses[r.Event]
	switch {
	case !known:
		return ocsfClass{apiActivity, activityOther, string(r.Event)}
	case c.class == groupManagement && r.Target != everybody && !strings.HasPrefix(r.Target, groupPrefix):
		c.class = userAccess // whose activities have the same numbers
	}
	return c
}

// CloudEvent returns a record for other systems. Source is the address of the records, and
// version that of the program.
func (r Record) CloudEvent(source, version string) CloudEvent {
	happened := r.At
	if !r.Reported.IsZero() {
		happened = r.Reported
	}
	return CloudEvent{
		SpecVersion: "1.0", ID: strconv.FormatInt(r.ID, 10), Source: source, Type: "portbook.audit." + string(r.Event),
		Time: happened.UTC(), Subject: r.Target, DataContentType: "application/json", Data: r.ocsf(happened, version),
	}
}

func (r Record) ocsf(happened time.Time, version string) OCSF {
	c := classOf(r)
	o := OCSF{
		CategoryUID: c.class / 1000, ClassUID: c.class, ActivityID: c.activity, ActivityName: c.name,
		TypeUID: c.class*100 + c.activity, Time: happened.UnixMilli(), SeverityID: 1, StatusID: 1, Message: r.Detail,
		Metadata: ocsfMetadata{
			Version: OCSFVersion, UID: strconv.FormatInt(r.ID, 10), LoggedTime: r.At.UnixMilli(), Correlation: r.Request,
			Product: ocsfProduct{"Portbook", "Portbook", version},
		},
		Actor: r.Actor.ocsf(), Source: endpointOf(r.Actor.Source),
	}
	if r.Refused {
		o.SeverityID, o.StatusID = 2, 2 // low; failure
	}
	if r.Actor.Claimed != "" || r.Repository != "" {
		o.Unmapped = &ocsfUnmapped{r.Actor.Claimed, r.Repository}
	}
	r.objects(&o)
	return o
}

// ocsf returns a as the actor of OCSF, which must say something.
func (a Actor) ocsf() ocsfActor {
	if a.Name == "" {
		return ocsfActor{App: "a client that has not proved who it is"}
	}
	return ocsfActor{User: &ocsfUser{a.Name, a.Token}}
}

// endpointOf returns a source as an endpoint, which must have an address or a name.
func endpointOf(source string) ocsfEndpoint {
	if _, err := netip.ParseAddr(source); err == nil {
		return ocsfEndpoint{IP: source}
	}
	return ocsfEndpoint{Name: cmp.Or(source, unknownName)}
}

// unknownName is the name of what must have one in OCSF and has none, such as the user of a login
// without a name.
const unknownName = "unknown"

// entitiesOfRetention are the types of entities of events about retention.
var entitiesOfRetention = map[Event]string{
	RetentionAdd: "Retention rule", RetentionChange: "Retention rule", RetentionRemove: "Retention rule", PlanMake: "Plan",
}

// objects sets the fields of a class that say what something was done to.
func (r Record) objects(o *OCSF) {
	switch o.ClassUID {
	case accountChange:
		o.User = &ocsfUser{Name: r.Target}
	case authentication:
		o.User, o.Service = &ocsfUser{Name: cmp.Or(r.Target, unknownName)}, &ocsfNamed{"Portbook"}
	case entityManagement:
		o.Entity = &ocsfEntity{r.Target, "Token"}
		switch kind, _, _ := strings.Cut(string(r.Event), "."); kind {
		case "workload":
			o.Entity.Type = "Workload"
		case "webhook":
			o.Entity.Type = "Webhook"
		}
		if kind, known := entitiesOfRetention[r.Event]; known {
			o.Entity = &ocsfEntity{cmp.Or(r.Target, unknownName), kind}
		}
		if r.Event == TokenAdd || r.Event == WorkloadAdd {
			o.User = &ocsfUser{Name: r.Target} // whose it is; its id is in the message
		}
	case userAccess:
		o.User, o.Privileges = &ocsfUser{Name: r.Target}, []string{r.Detail}
	case groupManagement:
		o.Group, o.Privileges = &ocsfNamed{strings.TrimPrefix(r.Target, groupPrefix)}, []string{r.Detail}
	case apiActivity:
		service := "Portbook"
		if !r.Reported.IsZero() {
			service = "registry"
		}
		kind, _, _ := strings.Cut(string(r.Event), ".")
		o.API, o.Resources = &ocsfAPI{string(r.Event), ocsfNamed{service}}, []ocsfResource{{r.Target, kind}}
	}
}
