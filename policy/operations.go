package policy

import (
	"fmt"
	"net/http"
	"slices"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// Operations refuses what the upstream cannot do at all.
var Operations = &Rule{
	Name: "operations",
	Doc: "The profile lists the resource types of the upstream and the operations it has for each. Anything else is " +
		"refused with 501 before it is sent. Under a profile without Groups, listing them answers 200 with an empty " +
		"list, because Entra's provisioning job goes into quarantine over an error there; writing one is refused.",
	Check: func(req *Request, _ scim.Resource, limits *Limits) []Finding {
		if limits == nil {
			switch req.Op {
			case scim.OpQuery:
				return []Finding{{Verdict: Remark, Reason: "the upstream has no " + req.Type.Name + ": the list is empty"}}
			case scim.OpGet, scim.OpDelete:
				return []Finding{{Verdict: Refuse, Status: http.StatusNotFound,
					Reason: fmt.Sprintf("the upstream has no resources of type %s: this one does not exist", req.Type.Name)}}
			}
			return []Finding{{Verdict: Refuse, Status: http.StatusNotImplemented, Reason: fmt.Sprintf(
				"the upstream has no resources of type %s: take %s out of the provisioning scope or switch its mapping off", req.Type.Name, req.Type.Name)}}
		}
		if slices.Contains(limits.Operations, profile.Operation(req.Op)) {
			return nil
		}
		return []Finding{{Verdict: Refuse, Status: http.StatusNotImplemented,
			Reason: fmt.Sprintf("the upstream does not offer %s for %s", req.Op, req.Type.Name)}}
	},
}
