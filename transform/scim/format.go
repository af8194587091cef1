package scim

import (
	"encoding/json"
	"strconv"
	"strings"
)

// FormatFilter writes a filter in the form of RFC 7644, Figure 1, with no brackets but those that are needed.
// [ParseFilter] makes an equal filter of it. "" for no filter.
func FormatFilter(f Filter) string {
	var p printer
	p.filter(f)
	return string(p.b)
}

// FormatPath writes a PATCH path in the form of RFC 7644, Figure 7. [ParsePath] makes an equal path of it. "" for
// no path.
func FormatPath(path *Path) string {
	var p printer
	p.path(path)
	return string(p.b)
}

// describePath is FormatPath for error texts: of the values in a value filter it shows only those of type, true,
// false and null, because all others may be personal.
func describePath(path *Path) string {
	p := printer{discreet: true}
	p.path(path)
	return clip(string(p.b))
}

type printer struct {
	b        []byte
	discreet bool // put "..." for values
}

func (p *printer) path(path *Path) {
	if path == nil {
		return
	}
	p.attribute(&path.AttributePath)
	if path.ValueExpression != nil {
		p.b = append(p.b, '[')
		p.filter(path.ValueExpression)
		p.b = append(p.b, ']')
	}
	if path.SubAttribute != nil {
		p.b = append(append(p.b, '.'), *path.SubAttribute...)
	}
}

func (p *printer) attribute(a *AttributePath) {
	if a.URIPrefix != nil {
		p.b = append(append(p.b, *a.URIPrefix...), ':')
	}
	p.b = append(p.b, a.AttributeName...)
	if a.SubAttribute != nil {
		p.b = append(append(p.b, '.'), *a.SubAttribute...)
	}
}

func (p *printer) filter(f Filter) {
	switch f := f.(type) {
	case *AttributeExpression:
		p.attribute(&f.AttributePath)
		p.b = append(append(p.b, ' '), f.Operator...)
		if f.Operator != Pr {
			p.b = append(p.b, ' ')
			p.value(f)
		}
	case *LogicalExpression:
		p.operand(f.Left, f.Operator == And && isLogical(f.Left, Or))
		p.b = append(append(append(p.b, ' '), f.Operator...), ' ')
		p.operand(f.Right, isLogical(f.Right, f.Operator) || f.Operator == And && isLogical(f.Right, Or))
	case *NotExpression:
		p.b = append(p.b, "not "...)
		p.operand(f.Expression, true)
	case *ValuePath:
		p.attribute(&f.AttributePath)
		p.b = append(p.b, '[')
		p.filter(f.ValueFilter)
		p.b = append(p.b, ']')
	}
}

// operand writes a part of a larger filter. Chains of one operator group to the left, so a chain on the right
// needs brackets to come back as it was.
func (p *printer) operand(f Filter, brackets bool) {
	if !brackets {
		p.filter(f)
		return
	}
	p.b = append(p.b, '(')
	p.filter(f)
	p.b = append(p.b, ')')
}

func isLogical(f Filter, op LogicalOperator) bool {
	l, ok := f.(*LogicalExpression)
	return ok && l.Operator == op
}

func (p *printer) value(e *AttributeExpression) {
	switch v := e.CompareValue.(type) {
	case nil:
		p.b = append(p.b, "null"...)
		return
	case bool:
		p.b = strconv.AppendBool(p.b, v)
		return
	default:
		if p.discreet && !strings.EqualFold(e.AttributePath.AttributeName, "type") {
			p.b = append(p.b, "..."...)
			return
		}
	}
	switch v := e.CompareValue.(type) {
	case string:
		p.b = appendString(p.b, strings.ToValidUTF8(v, "\uFFFD"))
	case int:
		p.b = strconv.AppendInt(p.b, int64(v), 10)
	case int64:
		p.b = strconv.AppendInt(p.b, v, 10)
	case json.Number:
		p.b = append(p.b, v...)
	case float64:
		start := len(p.b)
		p.b = strconv.AppendFloat(p.b, v, 'g', -1, 64)
		if !strings.ContainsAny(string(p.b[start:]), ".e") {
			p.b = append(p.b, ".0"...) // or it would come back as an int
		}
	}
}
