package load

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
)

func one(t *testing.T, q plan.Request, seq uint64) *message {
	t.Helper()
	s, err := newTemplates([]plan.Request{q}, 7, "run-web-1-")
	require.NoError(t, err)
	m, err := s.message(seq)
	require.NoError(t, err)
	return m
}

func TestTemplates(t *testing.T) {
	m := one(t, plan.Request{
		Method:  "POST",
		Path:    "/orders/{{mod .N 50}}?q={{.N}}",
		Headers: map[string]string{"idempotency-key": "{{.ID}}", "X-Fixed": "yes"},
		Body:    json.RawMessage(`{"sku": "sku-{{mod .N 50}}", "n": [1, "{{.N}}", {"deep\"{": "{{printf \"%q\" .ID}}"}], "plain": "a\"{b"}`),
	}, 123)
	assert.Equal(t, "/orders/23?q=123", m.url.RequestURI())
	assert.Equal(t, []string{"run-web-1-123"}, m.header["Idempotency-Key"])
	assert.Equal(t, "yes", m.header.Get("X-Fixed"))
	assert.Equal(t, "application/json", m.header.Get("Content-Type"))
	assert.JSONEq(t, `{"sku":"sku-23","n":[1,"123",{"deep\"{":"\"run-web-1-123\""}],"plain":"a\"{b"}`, string(m.body), "what a template yields is quoted again")
	assert.Equal(t, "run-web-1-123", m.id)
}

func TestStringBodyIsSentAsItIs(t *testing.T) {
	m := one(t, plan.Request{Path: "/", Body: json.RawMessage(`"n={{.N}} \"q\""`)}, 5)
	assert.Equal(t, `n=5 "q"`, string(m.body))
	assert.Empty(t, m.header.Get("Content-Type"))
	assert.Equal(t, "GET", m.method)
}

func TestOwnContentTypeWins(t *testing.T) {
	m := one(t, plan.Request{Path: "/", Headers: map[string]string{"content-type": "application/x-{{.N}}"}, Body: json.RawMessage(`{}`)}, 5)
	assert.Equal(t, []string{"application/x-5"}, m.header["Content-Type"])
}

func TestRandIsAFunctionOfSeedAndNumber(t *testing.T) {
	q := []plan.Request{{Path: "/{{rand 1000}}/{{rand 1000}}"}}
	a, err := newTemplates(q, 1, "")
	require.NoError(t, err)
	b, err := newTemplates(q, 1, "")
	require.NoError(t, err)
	other, err := newTemplates(q, 2, "")
	require.NoError(t, err)
	get := func(s source, n uint64) string {
		m, err := s.message(n)
		require.NoError(t, err)
		return m.url.Path
	}
	get(b, 9) // drawing one changes no other
	seen := map[string]bool{}
	same := 0
	for n := range uint64(100) {
		assert.Equal(t, get(a, n), get(b, n))
		seen[get(a, n)] = true
		if get(a, n) == get(other, n) {
			same++
		}
	}
	assert.Greater(t, len(seen), 95)
	assert.Less(t, same, 5)
	x := strings.Split(get(a, 0), "/")
	assert.NotEqual(t, x[1], x[2], "two draws in one request are two draws")
}

func TestWeights(t *testing.T) {
	s, err := newTemplates([]plan.Request{{ID: "never", Weight: 0, Path: "/"}, {ID: "one", Weight: 1, Path: "/"}, {ID: "none", Path: "/"}, {ID: "three", Weight: 3, Path: "/"}}, 3, "")
	require.NoError(t, err)
	n := map[string]int{}
	for seq := range uint64(40_000) {
		k, _ := s.kind(seq)
		n[k]++
	}
	assert.Zero(t, n["never"]+n["none"])
	assert.InDelta(t, 10_000, n["one"], 400)
	assert.InDelta(t, 30_000, n["three"], 400)
	m, err := s.message(17)
	require.NoError(t, err)
	k, _ := s.kind(17)
	assert.Equal(t, k, m.kind)

	s, err = newTemplates([]plan.Request{{ID: "a", Path: "/"}, {ID: "b", Path: "/"}}, 3, "")
	require.NoError(t, err)
	n = map[string]int{}
	for seq := range uint64(1000) {
		k, _ := s.kind(seq)
		n[k]++
	}
	assert.InDelta(t, 500, n["a"], 80, "with no weight at all, all are alike")
}

func TestBadTemplatesAreFoundBeforeTheStart(t *testing.T) {
	for want, q := range map[string]plan.Request{
		"begin with a slash":     {Path: "orders"},
		"unclosed action":        {Path: "/{{.N"},
		"can't evaluate field M": {Path: "/{{.M}}"},
		"mod by 0":               {Path: "/{{mod .N 0}}"},
		"rand of 0":              {Path: "/", Body: json.RawMessage(`{"a":"{{rand 0}}"}`)},
		"not defined":            {Path: "/", Headers: map[string]string{"A": "{{nope}}"}},
		"weight is less":         {Path: "/", Weight: -1},
		"expect.matches":         {Path: "/", Expect: plan.Expect{Matches: "("}},
		"invalid character":      {Path: "/", Body: json.RawMessage(`{]`)},
	} {
		_, err := newTemplates([]plan.Request{q}, 1, "")
		assert.ErrorContains(t, err, want)
	}
}

func TestExpect(t *testing.T) {
	for _, c := range []struct {
		expect plan.Expect
		code   int
		body   string
		good   bool
	}{
		{plan.Expect{}, 200, "", true}, {plan.Expect{}, 299, "", true}, {plan.Expect{}, 199, "", false},
		{plan.Expect{}, 300, "", false}, {plan.Expect{}, 503, "", false},
		{plan.Expect{Status: []int{201, 409}}, 409, "", true}, {plan.Expect{Status: []int{201}}, 200, "", false},
		{plan.Expect{Matches: "^ok$"}, 200, "ok", true}, {plan.Expect{Matches: "^ok$"}, 200, "no", false},
		{plan.Expect{Status: []int{500}, Matches: "x"}, 500, "axb", true},
	} {
		x, err := newExpect(c.expect)
		require.NoError(t, err)
		assert.Equal(t, c.good, x.judge(c.code, []byte(c.body)) == "", "%+v", c)
	}
}

func TestTargetsFile(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "body.json"), []byte(`{"a":1}`), 0o600))
	file := filepath.Join(dir, "targets.http")
	write := func(s string) { require.NoError(t, os.WriteFile(file, []byte(s), 0o600)) }
	write("# two targets\nGET http://somewhere:99/a?b=c\nX-One: 1\n\nPOST /orders\nHost: shop\n@body.json\n")
	s, err := readTargets(file, "p-")
	require.NoError(t, err)
	m, err := s.message(2)
	require.NoError(t, err)
	assert.Equal(t, "GET", m.method)
	assert.Equal(t, "/a?b=c", m.url.String(), "the load says where it goes, not the file")
	assert.Equal(t, "1", m.header.Get("X-One"))
	assert.Equal(t, "p-2", m.id)
	m, err = s.message(3)
	require.NoError(t, err)
	assert.Equal(t, `{"a":1}`, string(m.body), "relative to the file, not to the working directory")
	k, _ := s.kind(3)
	assert.Equal(t, "POST /orders", k)

	for want, text := range map[string]string{
		"no targets":   "# nothing\n",
		"bad method":   "fetch /x\n",
		"bad URL":      "GET x y\n",
		"no such file": "POST /x\n@missing\n",
		"line 3 has":   "GET /a\n\nGET /" + strings.Repeat("x", 70_000) + "\n",
	} {
		write(text)
		_, err := readTargets(file, "")
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, file)
	}
	_, err = readTargets(filepath.Join(dir, "none"), "")
	assert.ErrorContains(t, err, "reading targets")
}

func FuzzBody(f *testing.F) {
	f.Add(`{"a": "{{.N}}", "b": ["\\\"{{", null]}`)
	f.Add(`"{{.ID}}"`)
	f.Add(`{"a\u007b{": "\\"}`)
	f.Fuzz(func(t *testing.T, body string) {
		s, err := newTemplates([]plan.Request{{Path: "/", Body: json.RawMessage(body)}}, 1, "p")
		if err != nil {
			return
		}
		m, err := s.message(1)
		if err != nil || len(m.body) == 0 || strings.HasPrefix(strings.TrimSpace(body), `"`) {
			return
		}
		if !json.Valid(m.body) {
			t.Fatalf("%q became %q, which is no JSON", body, m.body)
		}
	})
}
