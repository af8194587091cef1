package conformance_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

func (m *model) bulk(c *call) (answer, error) {
	if c.method != "POST" {
		return answer{}, &problem{405, "POST", "Not this method."}
	}
	if len(c.body) > maxPayload && !m.is("bulk takes any number of bytes") {
		return answer{}, &problem{413, "", fmt.Sprint("The job exceeds maxPayloadSize (", maxPayload, ").")}
	}
	in, err := read(c.body)
	if err != nil {
		return answer{}, err
	}
	ops, _ := in["Operations"].([]any)
	if len(ops) > maxOperations && !m.is("bulk takes any number of operations") {
		return answer{}, &problem{413, "", fmt.Sprint("The job exceeds maxOperations (", maxOperations, ").")}
	}
	limit, _ := in["failOnErrors"].(float64)
	if m.is("failOnErrors is ignored") {
		limit = 0
	}
	if m.is("bulk stops at the first error") {
		limit = 1
	}
	ids := map[string]string{}
	results := []any{}
	errors := 0
	for _, op := range ops {
		r := m.operate(c, op.(object), ids)
		if code, _ := strconv.Atoi(fmt.Sprint(r["status"])); code >= 400 {
			errors++
		}
		if results = append(results, r); limit > 0 && errors >= int(limit) {
			break
		}
	}
	if m.is("bulk answers the last result only") {
		results = results[len(results)-1:]
	}
	status := 200
	if m.is("bulk answers 201") {
		status = 201
	}
	return answer{status, nil, object{"schemas": list([]string{messageURN + "BulkResponse"}), "Operations": results}}, nil
}

// operate does one operation of a bulk job. Circular references end with 409 (RFC 7644, Section 3.7.1).
func (m *model) operate(c *call, op object, ids map[string]string) object {
	method, _ := op["method"].(string)
	path, _ := op["path"].(string)
	name, _ := op["bulkId"].(string)
	text, _ := json.Marshal(op["data"])
	for bulkID, id := range ids {
		if !m.is("bulkIds in values are kept") {
			text = []byte(strings.ReplaceAll(string(text), `"bulkId:`+bulkID+`"`, `"`+id+`"`))
		}
		if !m.is("bulkIds in paths are kept") {
			path = strings.ReplaceAll(path, "bulkId:"+bulkID, id)
		}
	}
	header := http.Header{}
	if version, ok := op["version"].(string); ok && !m.is("version in bulk is ignored") {
		header.Set("If-Match", version)
	}
	var a answer
	switch {
	case strings.Contains(string(text), `"bulkId:`) && m.is("circular references are 500"):
		a = m.refusal(&problem{500, "", "loop"})
	case strings.Contains(string(text), `"bulkId:`) && !m.is("bulkIds in values are kept"):
		a = m.refusal(&problem{409, "", "The operation refers to a resource that is not there yet."})
	default:
		a = m.answer(&call{method: strings.ToUpper(method), path: path, query: url.Values{}, header: header, body: text, base: c.base})
	}
	r := object{"method": method, "status": strconv.Itoa(a.status)}
	if m.is("the status in bulk is a number") {
		r["status"] = a.status
	}
	if name != "" && !m.is("bulkId does not come back") {
		r["bulkId"] = name
	}
	switch {
	case a.status >= 400:
		if !m.is("errors in bulk have no response") {
			r["response"] = a.body
		}
		if method != "POST" && !m.is("errors in bulk have no location") {
			r["location"] = c.base + path
		}
	case method == "POST":
		id := fmt.Sprint(a.body.(object)["id"])
		ids[name] = id
		r["location"] = c.base + path + "/" + id
		if m.is("bulk gives no location") {
			delete(r, "location")
		}
	default:
		r["location"] = c.base + path
	}
	return r
}
