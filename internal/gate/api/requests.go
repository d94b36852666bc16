package api

// HostRequest makes a one-time token by which a host enrols itself: POST /hosts, answered
// with the Invitation.
type HostRequest struct {
	Name string `json:"name"`
}
