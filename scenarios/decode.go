package scenarios

import (
	"encoding"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// decoder fills Go values from nodes, by the json tags of their types: the file's own, and the parameters of faults and
// assertions, which know nothing of YAML. It goes on after an error.
type decoder struct {
	d      *document
	tables Tables
}

// shortForm is a mapping that may be written as a single value, that of the key it names.
type shortForm interface{ shortKey() string }

// nodeDecoder decodes itself.
type nodeDecoder interface {
	decodeNode(dc *decoder, n *node)
}

// errorsNow counts the errors, to see whether a value could be read. Past the most that are collected nothing can.
func (dc *decoder) errorsNow() int { return len(dc.d.errs) }

// into decodes n into v, which can be set. label is what messages call it.
func (dc *decoder) into(n *node, v reflect.Value, label string) {
	if v.Type() == reflect.TypeFor[json.RawMessage]() {
		v.SetBytes(n.json())
		return
	}
	if n.kind == nullNode {
		dc.d.at(n, "%s has no value; give it one or leave the key out", label)
		return
	}
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		dc.into(n, p.Elem(), label)
		v.Set(p)
		return
	}
	switch p := v.Addr().Interface().(type) {
	case nodeDecoder:
		p.decodeNode(dc, n)
		return
	case *plan.Duration:
		dc.duration(n, p, label)
		return
	case shortForm:
		if n.scalar() {
			dc.field(n, v, p.shortKey(), label)
			return
		}
	case json.Unmarshaler:
		switch p.(type) {
		case *plan.Span, *Lasting:
			if n.kind == numberNode {
				dc.d.at(n, "%s: %s has no unit; write it as %ss or %sms", label, n.text, n.text, n.text)
				return
			}
		}
		if err := p.UnmarshalJSON(n.json()); err != nil {
			msg, _, _ := strings.Cut(err.Error(), ": json: ")
			dc.d.at(n, "%s: %s", label, msg)
			return
		}
		switch p := p.(type) {
		case *plan.Span:
			dc.notForever(n, p, label)
		case *Lasting:
			dc.notForever(n, &p.Span, label)
		}
		return
	case encoding.TextUnmarshaler:
		if err := p.UnmarshalText([]byte(n.text)); !n.scalar() || err != nil {
			dc.d.at(n, "%s: %s cannot be read: %v", label, n.what(), err)
		}
		return
	}
	dc.kind(n, v, label)
}

// kind decodes what has no form of its own.
func (dc *decoder) kind(n *node, v reflect.Value, label string) {
	switch v.Kind() {
	case reflect.Struct:
		dc.structure(n, v, label)
	case reflect.Map:
		dc.mapping(n, v, label)
	case reflect.Slice:
		if n.kind != listNode {
			dc.d.at(n, "%s is a list, written [a, b] or with dashes, not %s", label, n.what())
			return
		}
		s := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
		for i, it := range n.items {
			dc.into(it, s.Index(i), label+"["+strconv.Itoa(i)+"]")
		}
		v.Set(s)
	case reflect.String:
		// A number where a text is meant (a version, an argument) keeps the form in which it was written.
		if !n.scalar() {
			dc.d.at(n, "%s is a text, not %s", label, n.what())
			return
		}
		v.SetString(n.text)
	case reflect.Bool:
		if n.kind != boolNode {
			dc.d.at(n, "%s is true or false, not %s", label, n.what())
			return
		}
		v.SetBool(n.text == "true")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(n.text, 10, 64)
		if n.kind != numberNode || err != nil || v.OverflowInt(i) {
			dc.d.at(n, "%s is a whole number, not %s", label, n.what())
			return
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(n.text, 10, 64)
		if n.kind != numberNode || err != nil || v.OverflowUint(u) {
			dc.d.at(n, "%s is a whole number of zero or more, not %s", label, n.what())
			return
		}
		v.SetUint(u)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(n.text, 64)
		if n.kind != numberNode || err != nil || math.IsInf(f, 0) {
			dc.d.at(n, "%s is a number, not %s", label, n.what())
			return
		}
		v.SetFloat(f)
	case reflect.Interface:
		v.Set(reflect.ValueOf(n.json()))
	default:
		dc.d.at(n, "%s has a type that a scenario cannot hold (%s)", label, v.Type())
	}
}

func (dc *decoder) duration(n *node, p *plan.Duration, label string) {
	if n.kind == numberNode && n.text != "0" {
		dc.d.at(n, "%s: %s has no unit; write it as %ss or %sms", label, n.text, n.text, n.text)
		return
	}
	s, err := plan.ParseSpan(n.text)
	switch {
	case !n.scalar():
		dc.d.at(n, "%s is a time such as 2s or 150ms, not %s", label, n.what())
	case err != nil:
		dc.d.at(n, "%s: %v", label, err)
	case s.Lo != s.Hi:
		dc.d.at(n, "%s: %s is a range; this is one time, it is not drawn", label, n.text)
	default:
		dc.notForever(n, &s, label)
		*p = s.Lo
	}
}

// maxTime bounds every time of a scenario: sums of them must not overflow.
const maxTime = plan.Duration(24 * time.Hour)

func (dc *decoder) notForever(n *node, s *plan.Span, label string) {
	if s.Hi > maxTime {
		dc.d.at(n, "%s: %v is more than a day", label, s.Hi)
		*s = plan.Span{}
	}
}

// structure decodes a mapping with known keys.
func (dc *decoder) structure(n *node, v reflect.Value, label string) {
	if n.kind != mapNode {
		dc.d.at(n, "%s is a mapping with the keys %s, not %s", label, strings.Join(fieldKeys(v.Type()), ", "), n.what())
		return
	}
	for _, e := range n.entries {
		dc.entry(e, v, label)
	}
}

// entry decodes one key of a struct; false is a key that the struct does not have, which was reported.
func (dc *decoder) entry(e entry, v reflect.Value, label string) bool {
	f, ok := fieldByKey(v.Type(), e.key)
	if !ok {
		dc.d.at(e.at, "%s has no key %q%s", label, e.key, suggest(e.key, fieldKeys(v.Type())))
		return false
	}
	dc.into(e.val, v.FieldByIndex(f.Index), e.key)
	return true
}

func (dc *decoder) field(n *node, v reflect.Value, key, label string) {
	if f, ok := fieldByKey(v.Type(), key); ok {
		dc.into(n, v.FieldByIndex(f.Index), label)
	}
}

// mapping decodes a mapping with names for keys.
func (dc *decoder) mapping(n *node, v reflect.Value, label string) {
	if n.kind != mapNode {
		dc.d.at(n, "%s is a mapping from names, not %s", label, n.what())
		return
	}
	if v.Type().Key().Kind() != reflect.String {
		dc.d.at(n, "%s has a type that a scenario cannot hold (%s)", label, v.Type())
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(n.entries))
	for _, e := range n.entries {
		x := reflect.New(v.Type().Elem()).Elem()
		dc.into(e.val, x, e.key)
		m.SetMapIndex(reflect.ValueOf(e.key).Convert(v.Type().Key()), x)
	}
	v.Set(m)
}

// tagKey is the key of a field, or "" for one that no key sets.
func tagKey(f reflect.StructField) string {
	if !f.IsExported() {
		return ""
	}
	tag, has := f.Tag.Lookup("json")
	key, _, _ := strings.Cut(tag, ",")
	switch {
	case key == "-":
		return ""
	case key != "":
		return key
	case f.Anonymous && f.Type.Kind() == reflect.Struct && !has:
		return "" // its fields stand for themselves
	}
	return f.Name
}

// fields are those that keys set, with the fields of embedded structs.
func fields(t reflect.Type) []reflect.StructField {
	var fs []reflect.StructField
	for _, f := range reflect.VisibleFields(t) {
		if tagKey(f) != "" && reachable(t, f.Index) {
			fs = append(fs, f)
		}
	}
	return fs
}

// reachable leaves out what lies in an embedded struct that has a key of its own.
func reachable(t reflect.Type, index []int) bool {
	for i := 1; i < len(index); i++ {
		f := t.FieldByIndex(index[:i])
		if !f.Anonymous || f.Type.Kind() != reflect.Struct || tagKey(f) != "" {
			return false
		}
	}
	return true
}

func fieldByKey(t reflect.Type, key string) (reflect.StructField, bool) {
	for _, f := range fields(t) {
		if tagKey(f) == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func fieldKeys(t reflect.Type) []string {
	var ks []string
	for _, f := range fields(t) {
		ks = append(ks, tagKey(f))
	}
	return ks
}
