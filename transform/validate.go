package transform

import (
	"scimgate/transform/scim"
)

// Validate checks a normalized request against the schema: types, required attributes, targets, the attributes
// and operators of a filter. What the upstream can do is not its business. The error is an *Error.
func Validate(req *scim.Request) error {
	switch req.Op {
	case scim.OpGet, scim.OpReplace, scim.OpPatch, scim.OpDelete:
		if !scim.IsID(req.ID) {
			return scim.NotFound(req.Type.Name, req.ID)
		}
	}
	switch req.Op {
	case scim.OpCreate, scim.OpReplace:
		return req.Type.Validate(req.Resource)
	case scim.OpPatch:
		for i, op := range req.Operations {
			if op.Target.Attribute == nil || op.Op == "remove" || op.Target.Writable() != nil {
				continue // a value is no matter where none may be set: policy refuses that, as a question of mutability
			}
			err := op.Target.Check(op.Value)
			if _, isList := op.Value.([]any); isList && op.Path.ValueExpression != nil && err == nil {
				err = scim.BadRequest(scim.InvalidValue, "%s: a value filter picks elements, so the value must be one element", op.Target.Ref)
			}
			if err != nil {
				return inOperation(i, err)
			}
		}
	case scim.OpQuery:
		_, err := req.Type.Attributes(req.Query.Filter)
		return err
	}
	return nil
}
