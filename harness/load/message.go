package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"text/template"

	"github.com/hasvc/gauntlet/harness/plan"
)

// message is one request, ready to be sent.
type message struct {
	kind   string // id of the request's template
	id     string // unique in the run
	method string
	url    *url.URL // path and query alone
	header http.Header
	body   []byte
	expect *expect
}

// expect says which answers are good.
type expect struct {
	status  []int // none: any 2xx
	codes   []int // of gRPC; none: OK
	matches *regexp.Regexp
}

func newExpect(e plan.Expect) (*expect, error) {
	x := &expect{status: e.Status}
	for _, name := range e.Codes {
		c, ok := grpcCode(name)
		if !ok {
			return nil, fmt.Errorf("expect.code: %q is no gRPC status", name)
		}
		x.codes = append(x.codes, c)
	}
	if e.Matches != "" {
		re, err := regexp.Compile(e.Matches)
		if err != nil {
			return nil, fmt.Errorf("expect.matches: %w", err)
		}
		x.matches = re
	}
	return x, nil
}

// judge returns why an answer is not good, or "".
func (x *expect) judge(code int, body []byte) string {
	if len(x.status) == 0 && (code < 200 || code > 299) || len(x.status) > 0 && !slices.Contains(x.status, code) {
		return fmt.Sprintf("status %d", code)
	}
	return x.judgeBody(body)
}

// judgeCall likewise, for the answer to a gRPC call. One without a status is never as expected; of one that is expected but not OK there
// is no message to match.
func (x *expect) judgeCall(c call, body []byte) string {
	if c.grpc == nil {
		return c.said
	}
	if code := *c.grpc; len(x.codes) == 0 && code != 0 || len(x.codes) > 0 && !slices.Contains(x.codes, code) {
		return strings.TrimSuffix("status "+grpcName(code)+": "+c.said, ": ")
	}
	if *c.grpc != 0 {
		return ""
	}
	if c.short != "" {
		return c.short
	}
	return x.judgeBody(body)
}

func (x *expect) judgeBody(body []byte) string {
	if x.matches != nil && !x.matches.Match(body) {
		return fmt.Sprintf("the body does not match %q", x.matches)
	}
	return ""
}

// source makes the message of each sequence number; which one it is, and every draw in it, depends on the seed and the
// number alone. It may be called from several goroutines.
type source interface {
	message(seq uint64) (*message, error)
	// kind is the id of the template that seq uses, without rendering it.
	kind(seq uint64) (string, *expect)
	// id is unique in the run.
	id(seq uint64) string
}

// templates is the source of a plan's Requests.
type templates struct {
	seed     uint64
	prefix   string   // of every ID
	weights  []uint64 // cumulative
	kinds    []string
	expects  []*expect
	compiled sync.Pool // of *renderer
}

func newTemplates(reqs []plan.Request, seed uint64, prefix string) (*templates, error) {
	t := &templates{seed: seed, prefix: prefix}
	var errs []error
	var sum uint64
	for i, r := range reqs {
		id := r.ID
		if id == "" {
			id = fmt.Sprint(i + 1)
		}
		bad := func(err error) { errs = append(errs, fmt.Errorf("request %s: %w", id, err)) }
		if r.Weight < 0 {
			bad(errors.New("the weight is less than zero"))
			continue
		}
		sum += uint64(r.Weight)
		x, err := newExpect(r.Expect)
		if err != nil {
			bad(err)
		}
		t.weights, t.kinds, t.expects = append(t.weights, sum), append(t.kinds, id), append(t.expects, x)
	}
	if sum == 0 { // no weight was given: all alike
		for i := range t.weights {
			t.weights[i] = uint64(i + 1)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	// The first renderer finds what is wrong with a template before anything is sent; the later ones cannot fail.
	first, err := newRenderer(reqs)
	if err != nil {
		return nil, err
	}
	t.compiled.New = func() any {
		r, err := newRenderer(reqs)
		if err != nil {
			return err
		}
		return r
	}
	for i := range reqs {
		if _, err := first.render(i, plan.TemplateData{ID: "id"}, newDraw(seed, 0)); err != nil {
			return nil, fmt.Errorf("request %s: %w", t.kinds[i], err)
		}
	}
	t.compiled.Put(first)
	return t, nil
}

// sample is a message of template i.
func (t *templates) sample(i int) (*message, error) {
	r, ok := t.compiled.Get().(*renderer)
	if !ok {
		return nil, errors.New("the templates cannot be compiled")
	}
	defer t.compiled.Put(r)
	return r.render(i, plan.TemplateData{ID: "id"}, newDraw(t.seed, 0))
}

func (t *templates) pick(seq uint64) int {
	x := mix(t.seed, seq) % t.weights[len(t.weights)-1]
	i, found := slices.BinarySearch(t.weights, x)
	if found { // x equals the sum up to i: it is the first of what follows, past any of weight 0
		for t.weights[i] == x {
			i++
		}
	}
	return i
}

func (t *templates) kind(seq uint64) (string, *expect) {
	i := t.pick(seq)
	return t.kinds[i], t.expects[i]
}

func (t *templates) id(seq uint64) string { return fmt.Sprintf("%s%d", t.prefix, seq) }

func (t *templates) message(seq uint64) (*message, error) {
	r, ok := t.compiled.Get().(*renderer)
	if !ok {
		return nil, errors.New("a template that was compiled once cannot be compiled again")
	}
	defer t.compiled.Put(r)
	i := t.pick(seq)
	m, err := r.render(i, plan.TemplateData{N: int(seq), ID: t.id(seq)}, newDraw(t.seed, seq))
	if err != nil {
		return nil, err
	}
	m.kind, m.expect = t.kinds[i], t.expects[i]
	return m, nil
}

// renderer holds the compiled templates of all requests. It serves one goroutine at a time: `rand` draws from draw.
type renderer struct {
	draw *draw
	reqs []compiled
	buf  bytes.Buffer
}

// compiled is one plan.Request with its templates.
type compiled struct {
	method string
	path   text
	fixed  *url.URL // when path has no template
	names  []string // of headers
	values []text
	body   []text // to be joined
	inJSON []bool // whether a part of body is a string of a JSON document, to be quoted
	header http.Header
}

// text is a template, or a constant that needs none.
type text struct {
	plain string
	tmpl  *template.Template
}

func newRenderer(reqs []plan.Request) (*renderer, error) {
	r := &renderer{}
	var errs []error
	for _, q := range reqs {
		c, err := r.compile(q)
		if err != nil {
			errs = append(errs, fmt.Errorf("request %s: %w", q.ID, err))
		}
		r.reqs = append(r.reqs, c)
	}
	return r, errors.Join(errs...)
}

func (r *renderer) text(what, s string) (text, error) {
	if !strings.Contains(s, "{{") {
		return text{plain: s}, nil
	}
	t, err := plan.ParseTemplate(what, s, func() uint64 { return r.draw.next() })
	if err != nil {
		return text{}, fmt.Errorf("%s %q: %w", what, s, err)
	}
	return text{tmpl: t}, nil
}

func (r *renderer) compile(q plan.Request) (compiled, error) {
	var errs []error
	get := func(what, s string) text {
		t, err := r.text(what, s)
		errs = append(errs, err)
		return t
	}
	c := compiled{method: q.Method, path: get("path", q.Path), header: http.Header{}}
	if c.method == "" {
		c.method = http.MethodGet
	}
	if c.path.tmpl == nil {
		u, err := parsePath(q.Path)
		errs = append(errs, err)
		c.fixed = u
	}
	for name, v := range q.Headers {
		t := get("header "+name, v)
		if t.tmpl == nil {
			c.header.Add(name, v)
			continue
		}
		c.names, c.values = append(c.names, http.CanonicalHeaderKey(name)), append(c.values, t)
	}
	errs = append(errs, r.compileBody(&c, q.Body))
	return c, errors.Join(errs...)
}

// compileBody cuts a JSON body at the strings that are templates, so that what they yield is quoted as JSON wants it.
// A body that is a JSON string is sent as it is.
func (r *renderer) compileBody(c *compiled, body json.RawMessage) error {
	body = bytes.TrimSpace(body)
	if len(body) == 0 || string(body) == "null" {
		return nil
	}
	var whole string
	if json.Unmarshal(body, &whole) == nil {
		t, err := r.text("body", whole)
		c.body, c.inJSON = append(c.body, t), append(c.inJSON, false)
		return err
	}
	var buf bytes.Buffer
	if err := json.Compact(&buf, body); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	body = buf.Bytes()
	if _, given := c.header["Content-Type"]; !given && !slices.Contains(c.names, "Content-Type") {
		c.header.Set("Content-Type", "application/json")
	}
	plain := func(s []byte) {
		c.body, c.inJSON = append(c.body, text{plain: string(s)}), append(c.inJSON, false)
	}
	from := 0
	for i := 0; i < len(body); i++ {
		if body[i] != '"' {
			continue
		}
		end := i + 1
		for body[end] != '"' {
			if body[end] == '\\' {
				end++
			}
			end++
		}
		var s string
		if err := json.Unmarshal(body[i:end+1], &s); err != nil {
			return fmt.Errorf("body: %w", err)
		}
		t, err := r.text("body", s)
		if err != nil {
			return err
		}
		if t.tmpl != nil {
			plain(body[from:i])
			c.body, c.inJSON = append(c.body, t), append(c.inJSON, true)
			from = end + 1
		}
		i = end
	}
	plain(body[from:])
	return nil
}

func (r *renderer) render(i int, d plan.TemplateData, w *draw) (*message, error) {
	r.draw = w
	c := &r.reqs[i]
	m := &message{id: d.ID, method: c.method, url: c.fixed, header: c.header}
	if c.fixed == nil {
		p, err := r.exec(c.path, d)
		if err != nil {
			return nil, err
		}
		if m.url, err = parsePath(string(p)); err != nil {
			return nil, err
		}
	}
	if len(c.names) > 0 {
		m.header = c.header.Clone()
		for k, name := range c.names {
			v, err := r.exec(c.values[k], d)
			if err != nil {
				return nil, err
			}
			m.header[name] = append(m.header[name], string(v))
		}
	}
	for k, t := range c.body {
		v, err := r.exec(t, d)
		if err != nil {
			return nil, err
		}
		if c.inJSON[k] {
			if v, err = json.Marshal(string(v)); err != nil {
				return nil, err
			}
		}
		m.body = append(m.body, v...)
	}
	return m, nil
}

// exec returns bytes that hold until the next call.
func (r *renderer) exec(t text, d plan.TemplateData) ([]byte, error) {
	if t.tmpl == nil {
		return []byte(t.plain), nil
	}
	r.buf.Reset()
	if err := t.tmpl.Execute(&r.buf, d); err != nil {
		return nil, err
	}
	return r.buf.Bytes(), nil
}

func parsePath(p string) (*url.URL, error) {
	if !strings.HasPrefix(p, "/") {
		return nil, fmt.Errorf("path %q: it must begin with a slash", p)
	}
	u, err := url.ParseRequestURI(p)
	if err != nil {
		return nil, fmt.Errorf("path %q: %w", p, err)
	}
	return u, nil
}

// draw is a splitmix64 stream (Steele, Lea, Flood 2014): one multiplication chain a number, and a seed is no more than
// its first state, so that each sequence number can have a stream of its own.
type draw struct{ state uint64 }

func newDraw(seed, seq uint64) *draw { return &draw{mix(seed, seq) + 1} }

func (d *draw) next() uint64 {
	d.state += 0x9e3779b97f4a7c15
	z := d.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// mix makes one number of a seed and a sequence number.
func mix(seed, seq uint64) uint64 {
	d := draw{seed}
	d.state = d.next() + seq*0x9e3779b97f4a7c15
	return d.next()
}

// copyOf returns a reader of a body and how to get another, for a connection that was found closed before anything was sent.
func copyOf(body []byte) (io.ReadCloser, func() (io.ReadCloser, error)) {
	get := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	b, _ := get()
	return b, get
}
