package main

import "scimgate/gateway/audit"

func line(r *audit.Record) string { return r.Kind + " " + r.Action + " " + r.Subject.UserName }
